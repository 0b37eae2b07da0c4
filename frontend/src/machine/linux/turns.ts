/** Lets the host's events in between two turns of the guest, without the clamping of time-outs. */
export class Turns {
  private readonly channel = new MessageChannel();
  private isRequested = false;
  private isClosed = false;

  constructor(private readonly turn: () => void) {
    this.channel.port1.onmessage = () => this.begin();
  }

  /** The next turn begins soon; asking twice is asking once. */
  request(): void {
    if (this.isRequested || this.isClosed) return;
    this.isRequested = true;
    // Node empties a port's queue before it looks at timers and files, so that turns that ask for the next would shut them out.
    if (typeof setImmediate === "function") setImmediate(() => this.begin());
    else this.channel.port2.postMessage(undefined);
  }

  close(): void {
    this.isClosed = true;
    this.channel.port1.close();
  }

  private begin(): void {
    this.isRequested = false;
    if (!this.isClosed) this.turn();
  }
}
