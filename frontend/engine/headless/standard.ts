/** The guest's standard input, output and error: the host's terminal, or streams. */

import type { Machine } from "../linux/machine.ts";
import { O_RDONLY, O_RDWR, O_WRONLY } from "../linux/io/constants.ts";
import { HostStream } from "../linux/io/stream.ts";
import { dropFile, holdFile } from "../linux/references.ts";
import { addHostObject } from "../linux/state/state.ts";
import type { OpenFile, Task } from "../linux/types.ts";
import { openPath } from "../linux/vfs/open.ts";

const CONSOLE = "/dev/ttyS0";
/** Bytes of input that wait for the guest before the host is asked to stop. */
const INPUT_AT_MOST = 65536;

/** `kick` is called whenever the guest may have something to do. */
export class StandardFiles {
  #machine: Machine;
  /** By name, as a saved machine knows them. */
  readonly streams: Record<string, HostStream> = {};
  #screen: NodeJS.WriteStream | undefined;
  readonly #kick: () => void;
  #raw = false;

  constructor(machine: Machine, kick: () => void) {
    this.#machine = machine;
    this.#kick = kick;
  }

  /** Opens descriptors 0, 1 and 2 in the new process. */
  open(task: Task): void {
    const { stdin, stdout, stderr } = process;
    const terminal = stdin.isTTY || stdout.isTTY || stderr.isTTY ? this.#terminal(task) : undefined;
    const { files } = task.process;
    const hold = (file: OpenFile): OpenFile => holdFile(file);
    files.add(stdin.isTTY && terminal !== undefined ? hold(terminal) : this.#input(task), false);
    files.add(stdout.isTTY && terminal !== undefined ? hold(terminal) : this.#output(task, stdout), false);
    files.add(stderr.isTTY && terminal !== undefined ? hold(terminal) : this.#output(task, stderr), false);
    if (terminal !== undefined) dropFile(terminal);
  }

  #terminal(task: Task): OpenFile {
    const file = openPath(task, CONSOLE, O_RDWR);
    const screen = process.stdout.isTTY ? process.stdout : process.stderr;
    this.#screen = screen;
    this.moveTo(this.#machine);
    const resize = (): void => {
      const { columns, rows } = screen;
      this.#machine.io.consoles[0]!.resize({
        rows: rows ?? 24,
        columns: columns ?? 80,
        xpixels: 0,
        ypixels: 0,
      });
      this.#kick();
    };
    resize();
    process.on("SIGWINCH", resize);
    if (process.stdin.isTTY) {
      process.stdin.setRawMode(true);
      this.#raw = true;
      process.stdin.on("data", (bytes: Buffer) => {
        this.#machine.io.consoles[0]!.input(new Uint8Array(bytes));
        this.#kick();
      });
    }
    return file;
  }

  /** A restored machine takes the place of the one before. */
  moveTo(machine: Machine): void {
    this.#machine = machine;
    const screen = this.#screen;
    if (screen !== undefined) machine.io.consoles[0]!.onOutput = (bytes) => void screen.write(bytes);
  }

  #name(name: string, stream: HostStream): HostStream {
    this.streams[name] = stream;
    addHostObject(this.#machine, name, stream);
    return stream;
  }

  #input(task: Task): OpenFile {
    const stream = this.#name("stdin", new HostStream(task, O_RDONLY));
    const { stdin } = process;
    const end = (): void => {
      stream.end();
      this.#kick();
    };
    stdin.on("data", (bytes: Buffer) => {
      stream.push(new Uint8Array(bytes));
      if (stream.waiting > INPUT_AT_MOST) stdin.pause();
      this.#kick();
    });
    stream.onDrain = () => {
      if (stdin.isPaused() && stream.waiting <= INPUT_AT_MOST) stdin.resume();
    };
    stdin.on("end", end);
    stdin.on("error", end);
    return stream;
  }

  #output(task: Task, to: NodeJS.WriteStream): OpenFile {
    const stream = this.#name(to === process.stdout ? "stdout" : "stderr", new HostStream(task, O_WRONLY));
    stream.onData = (bytes) => {
      if (!to.write(bytes)) stream.pause();
    };
    to.on("drain", () => {
      stream.resume();
      this.#kick();
    });
    to.on("error", () => {
      stream.hangUp();
      this.#kick();
    });
    return stream;
  }

  /** Leaves the host's terminal as it was. */
  close(): void {
    if (this.#raw) process.stdin.setRawMode(false);
    this.#raw = false;
    process.stdin.pause();
  }
}
