/** A machine put together: kernel, file systems, terminals and every system call. */

import { Errno } from "./errno.ts";
import { type ExecutableFile } from "./exec/execute.ts";
import { type Host, LinuxKernel } from "./kernel.ts";
import { installDevices } from "./io/devices/install.ts";
import type { IoMachine } from "./io/machine.ts";
import { clockCalls } from "./syscalls/clocks.ts";
import { cloneCalls } from "./syscalls/clone.ts";
import { epollCalls } from "./syscalls/epoll.ts";
import { eventCalls } from "./syscalls/events.ts";
import { executionCalls } from "./syscalls/execution.ts";
import { fileCalls } from "./syscalls/files.ts";
import { futexCalls } from "./syscalls/futex.ts";
import { identityCalls } from "./syscalls/identity.ts";
import { inotifyCalls } from "./syscalls/inotify.ts";
import { ipcCalls } from "./syscalls/ipc.ts";
import { kernelLogCalls } from "./syscalls/kernel-log.ts";
import { memoryCalls } from "./syscalls/memory.ts";
import { messageQueueCalls } from "./syscalls/message-queues.ts";
import { messageCalls } from "./syscalls/messages.ts";
import { pipeCalls } from "./syscalls/pipes.ts";
import { pollingCalls } from "./syscalls/polling.ts";
import { schedulingCalls } from "./syscalls/scheduling.ts";
import { signalCalls } from "./syscalls/signals.ts";
import { socketCalls } from "./syscalls/sockets.ts";
import { RELEASE, systemCalls, VERSION } from "./syscalls/system.ts";
import { composeCalls } from "./syscalls/table.ts";
import { systemVMessageCalls } from "./syscalls/system-v-messages.ts";
import { timerCalls } from "./syscalls/timers.ts";
import { waitingCalls } from "./syscalls/waiting.ts";
import type { ByteString, Credentials, Task } from "./types.ts";
import { Context, type Walker } from "./vfs/context.ts";
import { Descriptors } from "./vfs/descriptors.ts";
import { executableAt, openExecutable } from "./vfs/open.ts";
import { PlacedFile } from "./vfs/open-files.ts";
import type { ThreadGroup } from "./process.ts";
import { mountKernelFiles } from "./vfs/proc/filesystem.ts";
import type { Vfs } from "./vfs/vfs.ts";
import { walk } from "./vfs/walk.ts";

const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_EMPTY_PATH = 0x1000;

export interface Command {
  path: ByteString;
  arguments: ByteString[];
  environment: ByteString[];
  /** Working directory; where it is missing, the root. */
  directory: ByteString;
  credentials?: Credentials;
  pid?: number;
  /** Opens standard input, output and error in the new process. */
  open: (task: Task) => void;
}

/** What nobody says is as large as may be. */
export interface MachineSize {
  /** Pages of 4 KiB that processes and files in memory may fill. */
  pages?: number;
  /** ttyS0, ttyS1, … */
  terminals?: number | undefined;
}

export class Machine {
  readonly kernel: LinuxKernel;
  readonly vfs: Vfs;
  readonly io: IoMachine;

  constructor(host: Host, vfs: Vfs, module: WebAssembly.Module, size: MachineSize = {}) {
    this.vfs = vfs;
    const calls = composeCalls(
      clockCalls,
      cloneCalls,
      epollCalls,
      eventCalls,
      executionCalls,
      fileCalls,
      futexCalls,
      identityCalls,
      inotifyCalls,
      ipcCalls,
      kernelLogCalls,
      memoryCalls,
      messageCalls,
      messageQueueCalls,
      pipeCalls,
      pollingCalls,
      schedulingCalls,
      signalCalls,
      socketCalls,
      systemCalls,
      systemVMessageCalls,
      timerCalls,
      waitingCalls,
    );
    this.kernel = new LinuxKernel(host, { openExecutable: findExecutable }, module, calls, size.pages);
    this.kernel.messages.add(0, `Linux version ${RELEASE} (webvm) ${VERSION}`);
    this.kernel.messages.add(0, `Memory: ${this.kernel.pages.most * 4}K`);
    vfs.account = this.kernel.pages;
    mountKernelFiles(vfs, this.kernel);
    this.io = installDevices(this.kernel, vfs, size.terminals);
  }

  private walker(): Walker {
    return { fs: new Context(this.vfs.root), credentials: root() };
  }

  /** Whether the path leads to a directory, as root sees it. */
  isDirectory(path: ByteString): boolean {
    try {
      return walk(this.walker(), path).dentry.inode.isDirectory;
    } catch (error) {
      if (error instanceof Errno) return false;
      throw error;
    }
  }

  /** Starts a command. Throws `Errno`, or `Block` while its program is on its way from the disk: try again. */
  spawn(command: Command): ThreadGroup {
    const { vfs, kernel } = this;
    const credentials = command.credentials ?? root();
    const context = new Context(vfs.root);
    context.cwd = walk({ fs: context, credentials }, command.directory);
    return kernel.spawn({
      path: command.path,
      arguments: command.arguments,
      environment: command.environment,
      files: new Descriptors(vfs),
      open: command.open,
      fs: context,
      credentials,
      pid: command.pid ?? kernel.allocatePid(),
    });
  }
}

export function root(): Credentials {
  const ids = { uid: 0, euid: 0, suid: 0, fsuid: 0, gid: 0, egid: 0, sgid: 0, fsgid: 0 };
  return { ...ids, groups: [0] };
}

function findExecutable(task: Task, directory: number, path: ByteString, flags: number): ExecutableFile {
  const follow = (flags & AT_SYMLINK_NOFOLLOW) === 0;
  if (directory === AT_FDCWD || path.startsWith("/")) {
    return openExecutable(task.process, path, undefined, follow);
  }
  const file = task.process.files.get(directory);
  if (!(file instanceof PlacedFile)) return openExecutable(task.process, "", undefined, follow);
  if (path === "" && (flags & AT_EMPTY_PATH) !== 0) return executableAt(task.process, file.location);
  return openExecutable(task.process, path, file.location, follow);
}
