/** What a `pc`'s agent does in the guest, the machine does itself: docs/design/guest.md lists the lines. */

import { HostStream } from "../../../engine/linux/io/stream.ts";
import type { Machine as Guest } from "../../../engine/linux/machine.ts";
import type { ThreadGroup } from "../../../engine/linux/process.ts";
import { holdFile } from "../../../engine/linux/references.ts";
import type { Task } from "../../../engine/linux/types.ts";
import { openPath } from "../../../engine/linux/vfs/open.ts";
import { settle } from "../../../engine/linux/vfs/ext4/filesystem.ts";
import { messageOf } from "../machine";

const O_RDWR = 2;
const O_WRONLY = 1;
/** Bytes of output in a line. */
const PIECE = 4096;
const ENVIRONMENT = [
  "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  "HOME=/root",
  "USER=root",
  "LOGNAME=root",
  "SHELL=/bin/bash",
  "LANG=C.UTF-8",
];

export class GuestAgent {
  private readonly running = new Map<ThreadGroup, (status: number) => void>();
  /** Lines are answered in order: during a `run` nothing else is. */
  private last: Promise<void> = Promise.resolve();

  constructor(
    private readonly guest: Guest,
    private readonly answer: (line: string) => void,
  ) {}

  line(text: string): void {
    this.last = this.last
      .then(() => this.perform(text))
      .then(
        (answer) => this.answer(answer),
        (error: unknown) => this.answer(`error ${messageOf(error)}`),
      );
  }

  /** Told of every process that ends. */
  processEnded(process: ThreadGroup): void {
    this.running.get(process)?.(process.exitStatus ?? 0);
    this.running.delete(process);
  }

  private async perform(text: string): Promise<string> {
    const [word = "", ...rest] = text.trim().split(" ");
    switch (word) {
      case "resize":
        return this.resize(rest.map(Number));
      case "run":
        return this.run(
          new TextDecoder().decode(Uint8Array.from(atob(rest[0] ?? ""), (c) => c.charCodeAt(0))),
        );
      // Time and random numbers are the host's, and pages of files are never saved.
      case "clock":
      case "reseed":
      case "trim":
      case "ping":
        return `ok ${word}`;
      default:
        return "error unknown line";
    }
  }

  private resize([columns = 0, rows = 0, terminal = 0]: number[]): string {
    const console = this.guest.io.consoles[terminal];
    const isSize = (value: number): boolean => Number.isInteger(value) && value > 0 && value < 65536;
    if (console === undefined || !isSize(columns) || !isSize(rows)) return "error resize";
    console.resize({ rows, columns, xpixels: 0, ypixels: 0 });
    return "ok resize";
  }

  private async run(command: string): Promise<string> {
    const send = (bytes: Uint8Array): void => {
      for (let at = 0; at < bytes.length; at += PIECE) {
        this.answer(`out ${btoa(String.fromCharCode(...bytes.subarray(at, at + PIECE)))}`);
      }
    };
    const process = await settle(() =>
      this.guest.spawn({
        path: "/bin/sh",
        arguments: ["/bin/sh", "-c", byteString(command)],
        environment: ENVIRONMENT,
        directory: "/root",
        open: (task) => openStreams(task, send),
      }),
    );
    const status = await new Promise<number>((resolve) => this.running.set(process, resolve));
    const signal = status & 0x7f;
    return `exit ${signal === 0 ? status >>> 8 : 128 + signal}`;
  }
}

function openStreams(task: Task, send: (bytes: Uint8Array) => void): void {
  const { files } = task.process;
  const output = new HostStream(task, O_WRONLY);
  output.onData = send;
  files.add(openPath(task, "/dev/null", O_RDWR), false);
  files.add(output, false);
  files.add(holdFile(output), false);
}

function byteString(text: string): string {
  return String.fromCharCode(...new TextEncoder().encode(text));
}
