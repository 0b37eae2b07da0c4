/** Runs a command in the engine, under Node, on a disk image or a directory of the host. */

import { randomFillSync } from "node:crypto";
import { E, Errno } from "../linux/errno.ts";
import { EngineError, type Host, type Tracer } from "../linux/kernel.ts";
import { type Machine, root } from "../linux/machine.ts";
import type { ThreadGroup } from "../linux/process.ts";
import { makeMachine, type MachineOptions } from "../linux/state/state.ts";
import type { Credentials } from "../linux/types.ts";
import { loadCore } from "./core.ts";
import { endProcess } from "./ending.ts";
import { fileSystem } from "./files.ts";
import { CALLED_FROM, type Options, parseOptions, USAGE, UsageError } from "./options.ts";
import { machineOptions, restoredCopy } from "./restoring.ts";
import { StandardFiles } from "./standard.ts";
import { Statistics } from "./stats.ts";
import { ConsoleTracer } from "./trace.ts";

/** Milliseconds that the guest runs before the host's events are looked at. */
const TURN = 10;
const LONGEST_WAIT = 0x7fffffff;
const ENGINE_FAILED = 125;
const NOT_EXECUTABLE = 126;
const NOT_FOUND = 127;
const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

let clockOffset = 0;

const host: Host = {
  monotonic: () => performance.now() * 1e6 + clockOffset,
  continueFrom: (monotonic) => {
    clockOffset = monotonic - performance.now() * 1e6;
  },
  realtime: () => {
    const milliseconds = performance.timeOrigin + performance.now();
    const seconds = Math.floor(milliseconds / 1000);
    return { seconds, nanoseconds: Math.floor((milliseconds - seconds * 1000) * 1e6) };
  },
  random: (into) => {
    randomFillSync(into);
  },
  log: (message) => {
    process.stderr.write(`${message}\n`);
  },
};

function bytes(text: string): string {
  return Buffer.from(text, "utf8").toString("latin1");
}

function environment(options: Options): Map<string, string> {
  const { TERM, LANG, LC_ALL, TZ } = process.env;
  const variables = new Map([
    ["PATH", PATH],
    ["HOME", "/root"],
    ["TERM", TERM ?? "dumb"],
    ["LANG", LANG ?? "C.UTF-8"],
  ]);
  if (LC_ALL !== undefined) variables.set("LC_ALL", LC_ALL);
  if (TZ !== undefined) variables.set("TZ", TZ);
  for (const [name, value] of options.environment) variables.set(name, value);
  return variables;
}

function credentials(user: string | undefined): Credentials {
  if (user === undefined) return root();
  const [uid, gid] = user.split(":").map(Number);
  if (uid === undefined || !Number.isInteger(uid)) throw new UsageError("--user needs UID or UID:GID");
  const group = gid ?? uid;
  const users = { uid, euid: uid, suid: uid, fsuid: uid };
  return { ...users, gid: group, egid: group, sgid: group, fsgid: group, groups: [group] };
}

/** Where the command may be: as given, or along PATH. */
function candidates(command: string, path: string): string[] {
  if (command.includes("/")) return [command];
  return path.split(":").map((directory) => `${directory === "" ? "." : directory}/${command}`);
}

class Runner {
  readonly #options: Options;
  #machine: Machine;
  readonly #made: MachineOptions;
  readonly #tracer: Tracer | undefined;
  readonly #statistics: Statistics | undefined;
  readonly #standard: StandardFiles;
  #idle: NodeJS.Timeout | undefined;
  #scheduled = false;
  #ended = false;
  #restored = performance.now();
  #first: ThreadGroup | undefined;

  constructor(options: Options) {
    this.#options = options;
    const { vfs, device } = fileSystem(options, host);
    this.#made = machineOptions(
      host,
      loadCore(options.core),
      options.memoryMib,
      device === undefined ? {} : { device },
    );
    this.#machine = makeMachine(vfs, this.#made);
    const write = (line: string): void => void process.stderr.write(`${line}\n`);
    const tracer = options.trace ? new ConsoleTracer(write) : undefined;
    this.#statistics = options.stats ? new Statistics(tracer) : undefined;
    this.#tracer = this.#statistics ?? tracer;
    this.#attach();
    this.#standard = new StandardFiles(this.#machine, () => this.#kick());
  }

  #attach(): void {
    const { kernel } = this.#machine;
    kernel.tracer = this.#tracer;
    kernel.onProcessEnd = (ended) => {
      if (ended.pid === this.#first?.pid) this.#finish(ended.exitStatus ?? 0);
    };
  }

  /** The machine is its own copy from now on. */
  #restore(): void {
    const options = { ...this.#made, hostObjects: { ...this.#made.hostObjects, ...this.#standard.streams } };
    const copy = restoredCopy(this.#machine, options);
    if (copy === undefined) return;
    this.#machine = copy;
    this.#first = copy.kernel.process(this.#first!.pid);
    this.#attach();
    this.#standard.moveTo(copy);
    this.#restored = performance.now();
  }

  start(): void {
    const [command] = this.#options.command;
    const variables = environment(this.#options);
    let failure: Errno = new Errno(E.NOENT);
    for (const path of candidates(command!, variables.get("PATH") ?? "")) {
      try {
        this.#first = this.#spawn(path, variables);
        break;
      } catch (error) {
        if (!(error instanceof Errno)) throw error;
        if (error.code !== E.NOENT && error.code !== E.NOTDIR) failure = error;
      }
    }
    if (this.#first === undefined) {
      const missing = failure.code === E.NOENT;
      process.stderr.write(
        `${command}: ${missing ? "not found" : `can't be executed (errno ${failure.code})`}\n`,
      );
      process.exit(missing ? NOT_FOUND : NOT_EXECUTABLE);
    }
    for (const [signal, number] of [
      ["SIGTERM", 15],
      ["SIGINT", 2],
      ["SIGHUP", 1],
    ] as const) {
      process.on(signal, () => {
        this.#machine.kernel.signalProcess(this.#first!, number);
        this.#kick();
      });
    }
    this.#kick();
  }

  #spawn(path: string, variables: Map<string, string>): ThreadGroup {
    const options = this.#options;
    const spawn = (directory: string): ThreadGroup =>
      this.#machine.spawn({
        path: bytes(path),
        arguments: options.command.map(bytes),
        environment: [...variables].map(([name, value]) => bytes(`${name}=${value}`)),
        directory: bytes(directory),
        credentials: credentials(options.user),
        ...(options.init ? { pid: 1 } : {}),
        open: (task) => this.#standard.open(task),
      });
    if (options.directory !== undefined) return spawn(options.directory);
    return spawn(this.#machine.isDirectory(bytes(CALLED_FROM)) ? CALLED_FROM : "/");
  }

  /** The guest may have something to do. */
  #kick(): void {
    if (this.#scheduled || this.#ended) return;
    this.#scheduled = true;
    if (this.#idle !== undefined) clearTimeout(this.#idle);
    this.#idle = undefined;
    setImmediate(() => {
      this.#scheduled = false;
      this.#turn();
    });
  }

  #turn(): void {
    const { kernel } = this.#machine;
    try {
      kernel.step(TURN);
    } catch (error) {
      this.#standard.close();
      process.stderr.write(
        `${error instanceof EngineError ? error.message : String((error as Error).stack)}\n`,
      );
      process.exit(ENGINE_FAILED);
    }
    if (this.#ended) return;
    const { restoreEvery } = this.#options;
    if (restoreEvery !== undefined && performance.now() - this.#restored >= restoreEvery) {
      this.#restore();
      return this.#kick();
    }
    if (kernel.runnable) return this.#kick();
    const wait = Math.ceil((kernel.nextTimer - kernel.monotonic()) / 1e6);
    this.#idle = setTimeout(() => this.#kick(), Math.max(0, Math.min(LONGEST_WAIT, wait)));
  }

  #finish(status: number): void {
    this.#ended = true;
    this.#standard.close();
    if (this.#statistics !== undefined) {
      process.stderr.write(this.#statistics.report(this.#machine.kernel));
    }
    const signal = status & 0x7f;
    const code = signal === 0 ? status >>> 8 : 128 + signal;
    if (this.#idle !== undefined) clearTimeout(this.#idle);
    endProcess(code);
  }
}

try {
  new Runner(parseOptions(process.argv.slice(2))).start();
} catch (error) {
  if (error instanceof UsageError) {
    process.stderr.write(`${error.message}\n\n${USAGE}`);
    process.exit(2);
  }
  const known = error instanceof Errno || error instanceof EngineError;
  process.stderr.write(`${known || !(error instanceof Error) ? String(error) : error.stack}\n`);
  process.exit(ENGINE_FAILED);
}
