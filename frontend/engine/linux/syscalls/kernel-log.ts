/** syslog(2), which dmesg reads where there is no /dev/kmsg. */

import { E, Errno } from "../errno.ts";
import { LOG_BYTES } from "../kernel-log.ts";
import { ofThreads, type Thread } from "../task.ts";
import { Block } from "../wait.ts";

const CLOSE = 0;
const OPEN = 1;
const READ = 2;
const READ_ALL = 3;
const READ_CLEAR = 4;
const CLEAR = 5;
const CONSOLE_OFF = 6;
const CONSOLE_ON = 7;
const CONSOLE_LEVEL = 8;
const SIZE_UNREAD = 9;
const SIZE_BUFFER = 10;

function syslog(thread: Thread, action: number, at: number, length: number): number {
  const { process, memory } = thread;
  const { messages } = process.kernel;
  // As kernel.dmesg_restrict = 1 has it, which is Debian's.
  if (process.credentials.euid !== 0) throw new Errno(E.PERM);
  switch (action) {
    case READ:
      // Whoever wants to be told of new messages hears of none.
      throw new Block([]);
    case READ_ALL:
    case READ_CLEAR: {
      if (at === 0 || length < 0) throw new Errno(E.INVAL);
      const text = messages.text(length);
      const bytes = memory.writable(at, text.length);
      for (let index = 0; index < text.length; index += 1) bytes[index] = text.charCodeAt(index);
      if (action === READ_CLEAR) messages.clear();
      return text.length;
    }
    case CLEAR:
      messages.clear();
      return 0;
    case SIZE_BUFFER:
      return LOG_BYTES;
    case CONSOLE_LEVEL:
      if (length < 1 || length > 8) throw new Errno(E.INVAL);
      return 0;
    case CLOSE:
    case OPEN:
    case CONSOLE_OFF:
    case CONSOLE_ON:
    case SIZE_UNREAD:
      return 0;
    default:
      throw new Errno(E.INVAL);
  }
}

export const kernelLogCalls = ofThreads({
  syslog: (thread, a) => syslog(thread, a[0] | 0, a[1], a[2] | 0),
});
