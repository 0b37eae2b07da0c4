/** execve and the end of threads and processes. */

import { E, Errno } from "../errno.ts";
import { execute } from "../exec/execute.ts";
import { exitProcess, exitThread } from "../exit.ts";
import { NO_RESULT, ofThreads, type Thread } from "../task.ts";
import type { ByteString } from "../types.ts";

const AT_FDCWD = -100;
const STRING_AT_MOST = 32 * 4096;
const STRINGS_AT_MOST = 0x20000;

/** A NULL-terminated array of strings. */
function strings(thread: Thread, address: number): ByteString[] {
  const list: ByteString[] = [];
  if (address === 0) return list;
  for (let at = address; ; at += 8) {
    const pointer = thread.memory.getI64(at);
    if (pointer === 0) return list;
    if (list.length >= STRINGS_AT_MOST) throw new Errno(E["2BIG"]);
    try {
      list.push(thread.memory.string(pointer, STRING_AT_MOST));
    } catch (error) {
      if (error instanceof Errno && error.code === E.NAMETOOLONG) throw new Errno(E["2BIG"]);
      throw error;
    }
  }
}

function run(thread: Thread, directory: number, path: number, a: number, e: number, flags: number): number {
  const name = thread.memory.string(path);
  const argv = strings(thread, a);
  const environment = strings(thread, e);
  const file = thread.process.kernel.files.openExecutable(thread, directory, name, flags);
  let shown = name;
  if (directory !== AT_FDCWD && !name.startsWith("/")) {
    shown = name === "" ? `/dev/fd/${directory}` : `/dev/fd/${directory}/${name}`;
  }
  execute(thread, file, shown, argv, environment);
  return NO_RESULT;
}

export const executionCalls = ofThreads({
  execve: (thread, a) => run(thread, AT_FDCWD, a[0], a[1], a[2], 0),
  execveat: (thread, a) => run(thread, a[0] | 0, a[1], a[2], a[3], a[4] | 0),

  exit(thread, a) {
    exitThread(thread, (a[0] & 0xff) << 8);
    return NO_RESULT;
  },

  exit_group(thread, a) {
    exitProcess(thread.process, (a[0] & 0xff) << 8);
    return NO_RESULT;
  },
});
