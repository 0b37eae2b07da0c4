/** The runner's command line. */

import { resolve } from "node:path";

/** npm runs us in its own directory and says where it was called. */
export const CALLED_FROM = process.env["INIT_CWD"] ?? process.cwd();

const LEAST_MIB = 16;
const MOST_MIB = 65536;

export interface Options {
  disk: string | undefined;
  root: string | undefined;
  command: string[];
  directory: string | undefined;
  environment: [string, string][];
  trace: boolean;
  stats: boolean;
  core: string | undefined;
  user: string | undefined;
  memoryMib: number;
  init: boolean;
  /** Milliseconds. */
  restoreEvery: number | undefined;
}

export const USAGE = `usage: npm --prefix frontend run guest -- --disk IMAGE|--root DIR [options] [--] COMMAND [ARGUMENT...]

  --disk IMAGE      an ext4 image as the root file system (written to in memory only)
  --root DIR        a directory of the host as the root file system (likewise)
  --cwd DIR         working directory in the guest (default: the host's, where the guest has it; else /)
  --env NAME=VALUE  one more variable of the environment
  --user UID[:GID]  run as that user (default 0)
  --memory MIB      what its processes and files in memory may fill, more or less (default 2048)
  --init            run it as process 1
  --trace           show system calls on standard error
  --stats           show figures on standard error at the end
  --restore-every MS  now and then save the machine, and go on with what is restored from that (for tests)
  --core FILE       core.wasm to use (default: frontend/dist-engine/core.wasm)
`;

/** Wrong options; the message says which. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

export function parseOptions(argv: readonly string[]): Options {
  const options: Options = {
    disk: undefined,
    root: undefined,
    command: [],
    directory: undefined,
    environment: [],
    trace: false,
    stats: false,
    core: undefined,
    user: undefined,
    memoryMib: 2048,
    init: false,
    restoreEvery: undefined,
  };
  let at = 0;
  const value = (name: string): string => {
    at += 1;
    const next = argv[at];
    if (next === undefined) throw new UsageError(`${name} needs a value`);
    return next;
  };
  for (; at < argv.length; at += 1) {
    const word = argv[at]!;
    if (word === "--") {
      at += 1;
      break;
    }
    if (!word.startsWith("-")) break;
    switch (word) {
      case "--disk":
        options.disk = resolve(CALLED_FROM, value(word));
        break;
      case "--root":
        options.root = resolve(CALLED_FROM, value(word));
        break;
      case "--cwd":
        options.directory = value(word);
        break;
      case "--env": {
        const [, name, text] = /^([^=]+)=(.*)$/s.exec(value(word)) ?? [];
        if (name === undefined || text === undefined) throw new UsageError("--env needs NAME=VALUE");
        options.environment.push([name, text]);
        break;
      }
      case "--user":
        options.user = value(word);
        break;
      case "--memory": {
        const size = Number(value(word));
        if (!Number.isInteger(size) || size < LEAST_MIB || size > MOST_MIB)
          throw new UsageError(`--memory needs ${LEAST_MIB} to ${MOST_MIB} MiB`);
        options.memoryMib = size;
        break;
      }
      case "--restore-every": {
        const milliseconds = Number(value(word));
        if (!(milliseconds >= 0)) throw new UsageError("--restore-every needs milliseconds");
        options.restoreEvery = milliseconds;
        break;
      }
      case "--core":
        options.core = resolve(CALLED_FROM, value(word));
        break;
      case "--init":
        options.init = true;
        break;
      case "--trace":
        options.trace = true;
        break;
      case "--stats":
        options.stats = true;
        break;
      default:
        throw new UsageError(`unknown option ${word}`);
    }
  }
  options.command = argv.slice(at);
  if ((options.disk === undefined) === (options.root === undefined)) {
    throw new UsageError("give one of --disk and --root");
  }
  if (options.command.length === 0) throw new UsageError("no command given");
  return options;
}
