/**
 * The end of the process, by running out of things to do. `process.exit` waits for V8's compilers, which may in turn be waiting for a
 * garbage collection that this thread would have to do: one process in a few hundred never ended on a busy machine
 * (https://github.com/nodejs/node/issues/54918).
 */

/** Milliseconds for what should have stopped by itself. */
const GRACE = 1000;

/** Nothing that is still to happen keeps the process; what was written before arrives. */
export function endProcess(code: number): void {
  process.exitCode = code;
  process.stdin.destroy();
  const exit = (): void => process.exit();
  process.stdout.write("", () => process.stderr.write("", () => void setTimeout(exit, GRACE).unref()));
}
