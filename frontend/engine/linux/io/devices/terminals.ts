/** Opening terminals: by their own name, as /dev/tty, and new ones through ptmx. */

import { E, Errno } from "../../errno.ts";
import type { ByteString, Inode, OpenFile, Task } from "../../types.ts";
import { S_IFCHR, makeDevice } from "../../vfs/constants.ts";
import type { FileSystem } from "../../vfs/inode.ts";
import { O_ACCMODE, O_NOCTTY, O_WRONLY } from "../constants.ts";
import type { IoMachine } from "../machine.ts";
import { TerminalFile } from "../tty/file.ts";
import { MasterFile, PTS_MAJOR, Pty, type Ptys } from "../tty/pty.ts";
import type { Terminal } from "../tty/terminal.ts";

export class HeldTerminalFile extends TerminalFile {
  constructor(terminal: Terminal, inode: Inode, flags: number, name: ByteString) {
    super(terminal, inode, flags, name);
    inode.hold();
    if (terminal instanceof Pty) terminal.sidesChanged();
  }

  protected override terminalReleased(): void {
    super.terminalReleased();
    if (this.terminal instanceof Pty) this.terminal.sidesChanged();
    this.inode.drop();
  }
}

/** The rules of opening a terminal; `controlling` false: it does not become the caller's. */
export function openTerminal(
  task: Task,
  terminal: Terminal,
  inode: Inode,
  flags: number,
  name: ByteString,
  controlling = true,
): OpenFile {
  const { process } = task;
  if (terminal instanceof Pty && (terminal.locked || !terminal.masterOpen)) throw new Errno(E.IO);
  if (terminal.exclusive && process.credentials.euid !== 0) throw new Errno(E.BUSY);
  const file = new HeldTerminalFile(terminal, inode, flags, name);
  if (
    controlling &&
    (flags & O_NOCTTY) === 0 &&
    (flags & O_ACCMODE) !== O_WRONLY &&
    process.pid === process.sid &&
    process.session.terminal === undefined &&
    terminal.session === undefined
  ) {
    terminal.takeSession(process);
  }
  return file;
}

/** Group tty: who may write to others' terminals. */
const TTY_GROUP = 5;

/** All ptys of a machine: makes them, gives them names in devpts, takes them away. */
export class PtyDevices implements Ptys {
  private readonly machine: IoMachine;
  private readonly fs: FileSystem;

  constructor(machine: IoMachine, fs: FileSystem) {
    this.machine = machine;
    this.fs = fs;
  }

  openMaster(task: Task, inode: Inode, flags: number, name: ByteString): OpenFile {
    const pty = this.machine.newPty();
    if (pty === undefined) throw new Errno(E.NOSPC);
    const rdev = makeDevice(PTS_MAJOR, pty.index);
    const uid = task.process.credentials.fsuid;
    this.fs.root.create(String(pty.index), { mode: S_IFCHR | 0o620, uid, gid: TTY_GROUP, rdev });
    return new MasterFile(pty, this, inode, flags, name);
  }

  openSide(task: Task, index: number, inode: Inode, flags: number, name: ByteString): OpenFile {
    const pty = this.machine.ptys.get(index);
    if (pty === undefined) throw new Errno(E.IO);
    return openTerminal(task, pty, inode, flags, name);
  }

  openPeer(task: Task, pty: Pty, flags: number): OpenFile {
    const inode = this.fs.root.lookup(String(pty.index));
    if (inode === undefined) throw new Errno(E.IO);
    return openTerminal(task, pty, inode, flags, `/dev/pts/${pty.index}`);
  }

  masterClosed(pty: Pty): void {
    this.machine.ptys.delete(pty.index);
    const name = String(pty.index);
    const inode = this.fs.root.lookup(name);
    if (inode !== undefined) this.fs.root.unlink(name, inode);
  }
}
