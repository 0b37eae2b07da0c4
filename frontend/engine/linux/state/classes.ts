/** Classes whose objects a saved machine may have, by the name that is written. */

import { ByteQueue } from "../io/bytes.ts";
import { MemoryDeviceFile } from "../io/devices/memory.ts";
import { HeldTerminalFile, PtyDevices } from "../io/devices/terminals.ts";
import { EpollFile, EpollItem } from "../io/events/epoll.ts";
import { EventFile } from "../io/events/eventfd.ts";
import { InotifyFile, Watches } from "../io/events/inotify.ts";
import { ProcessFile } from "../io/events/pidfd.ts";
import { SignalFile } from "../io/events/signalfd.ts";
import { TimerFile } from "../io/events/timerfd.ts";
import { FifoFile } from "../io/fifo.ts";
import { Locks } from "../io/locks.ts";
import { IoMachine } from "../io/machine.ts";
import { MessageQueue, MessageQueueFile, MessageQueues } from "../io/message-queue.ts";
import { Pipe, PipeFile } from "../io/pipe.ts";
import { PseudoInode } from "../io/pseudo.ts";
import { NetlinkSocket } from "../io/sockets/netlink.ts";
import { Ports } from "../io/sockets/ports.ts";
import { Segments } from "../io/sockets/segments.ts";
import { TcpSocket } from "../io/sockets/tcp.ts";
import { UdpSocket } from "../io/sockets/udp.ts";
import { UnixDatagramSocket } from "../io/sockets/unix-datagram.ts";
import { UnixName } from "../io/sockets/unix-names.ts";
import { UnixStreamSocket } from "../io/sockets/unix-stream.ts";
import { HostStream } from "../io/stream.ts";
import { Console } from "../io/tty/console.ts";
import { LineDiscipline } from "../io/tty/discipline.ts";
import { Echo } from "../io/tty/echo.ts";
import { TerminalFile } from "../io/tty/file.ts";
import { OutputProcessor } from "../io/tty/output.ts";
import { MasterFile, Pty } from "../io/tty/pty.ts";
import { Futexes } from "../futex.ts";
import { Ipc, Objects } from "../ipc.ts";
import { LinuxKernel } from "../kernel.ts";
import { KernelLog } from "../kernel-log.ts";
import { LoadAverages } from "../load.ts";
import { Machine } from "../machine.ts";
import { AreaList } from "../memory/areas.ts";
import { Maps } from "../memory/maps.ts";
import { PageAccount, Paging } from "../memory/paging.ts";
import { SharedMemory, SharedVersions } from "../memory/shared.ts";
import { AddressSpace, CorePool } from "../memory/space.ts";
import { MappedMemory } from "../memory/user.ts";
import { ThreadGroup } from "../process.ts";
import { Scheduler } from "../scheduler.ts";
import { PendingSignals } from "../signals/pending.ts";
import { Thread } from "../task.ts";
import { TimerHeap } from "../timers.ts";
import { Context } from "../vfs/context.ts";
import { Dentry } from "../vfs/dentry.ts";
import { Descriptors } from "../vfs/descriptors.ts";
import { DeviceRegistry } from "../vfs/devices.ts";
import { Allocation } from "../vfs/ext4/allocation.ts";
import { InodeBlocks } from "../vfs/ext4/blocks.ts";
import { Content } from "../vfs/ext4/content.ts";
import { Directory } from "../vfs/ext4/directory.ts";
import { Ext4FileSystem } from "../vfs/ext4/filesystem.ts";
import { Geometry, Group } from "../vfs/ext4/geometry.ts";
import { Ext4Inode } from "../vfs/ext4/inode.ts";
import { PageCache } from "../vfs/ext4/page-cache.ts";
import { RawInode } from "../vfs/ext4/raw-inode.ts";
import { Store } from "../vfs/ext4/store.ts";
import { Hooks } from "../vfs/hooks.ts";
import { MemoryDirectory } from "../vfs/memory-directory.ts";
import { MemoryFileSystem } from "../vfs/memory-fs.ts";
import { MemoryInode } from "../vfs/memory-inode.ts";
import { Mount } from "../vfs/mounts.ts";
import { DirectoryFile, PathFile, RegularFile } from "../vfs/open-files.ts";
import { Pages } from "../vfs/pages.ts";
import { ProcFileSystem } from "../vfs/proc/filesystem.ts";
import { FileStandIn, ProcDirectory, ProcLink, ProcText, TextFile } from "../vfs/proc/nodes.ts";
import { Remembered } from "../vfs/remembered.ts";
import { Vfs } from "../vfs/vfs.ts";
import { WaitQueue } from "../wait.ts";

const CLASSES = {
  AddressSpace,
  Allocation,
  AreaList,
  ByteQueue,
  Console,
  Content,
  Context,
  Dentry,
  Descriptors,
  DeviceRegistry,
  Directory,
  DirectoryFile,
  Echo,
  EpollFile,
  EpollItem,
  EventFile,
  Ext4FileSystem,
  Ext4Inode,
  FifoFile,
  FileStandIn,
  Futexes,
  Geometry,
  Group,
  HeldTerminalFile,
  Hooks,
  HostStream,
  InodeBlocks,
  InotifyFile,
  IoMachine,
  Ipc,
  LineDiscipline,
  KernelLog,
  LinuxKernel,
  LoadAverages,
  Locks,
  Machine,
  MappedMemory,
  Maps,
  MasterFile,
  MemoryDeviceFile,
  MemoryDirectory,
  MemoryFileSystem,
  MemoryInode,
  MessageQueue,
  MessageQueueFile,
  MessageQueues,
  Mount,
  NetlinkSocket,
  Objects,
  OutputProcessor,
  PageAccount,
  PageCache,
  Pages,
  Paging,
  PathFile,
  PendingSignals,
  Pipe,
  PipeFile,
  Ports,
  ProcDirectory,
  ProcFileSystem,
  ProcLink,
  ProcText,
  ProcessFile,
  PseudoInode,
  Pty,
  PtyDevices,
  RawInode,
  RegularFile,
  Remembered,
  Scheduler,
  Segments,
  SharedMemory,
  SharedVersions,
  SignalFile,
  Store,
  TcpSocket,
  TerminalFile,
  TextFile,
  Thread,
  ThreadGroup,
  TimerFile,
  TimerHeap,
  UdpSocket,
  UnixDatagramSocket,
  UnixName,
  UnixStreamSocket,
  Vfs,
  WaitQueue,
  Watches,
};

/** Fields that are not saved, and what they begin with in an object that is restored. */
export type Transient = Readonly<Record<string, () => unknown>>;
const NOTHING: Transient = {};

interface Known {
  readonly prototype: object;
  readonly transient?: Transient;
}

const byName = new Map<string, Known>(Object.entries(CLASSES as unknown as Record<string, Known>));
const byPrototype = new Map([...byName].map(([name, { prototype }]) => [prototype, name]));

/** The host's own, which the machine's objects hold. */
export function addClass(name: string, known: Known): void {
  byName.set(name, known);
  byPrototype.set(known.prototype, name);
}

/** The name of an object's class; "" for a plain one, undefined for what may not be in a machine. */
export function classNameOf(object: object): string | undefined {
  const prototype: unknown = Object.getPrototypeOf(object);
  if (prototype === Object.prototype || prototype === null) return "";
  return byPrototype.get(prototype as object);
}

/** Undefined: no such class. */
export function prototypeOf(name: string): object | undefined {
  return name === "" ? Object.prototype : byName.get(name)?.prototype;
}

export function transientOf(name: string): Transient {
  return byName.get(name)?.transient ?? NOTHING;
}

/** Never looked into: the core's instances and whatever else is the host's. */
export function isOpaque(object: object): boolean {
  return (
    typeof object === "function" ||
    object instanceof CorePool ||
    (classNameOf(object) === undefined &&
      !Array.isArray(object) &&
      !(object instanceof Map) &&
      !(object instanceof Set))
  );
}
