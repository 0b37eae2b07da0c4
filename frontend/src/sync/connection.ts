/** One WebSocket from open to close: requests with answers by id and time-outs, chunk frames under the credit window. */

import { Bug, ConnectionLost } from "./errors";
import { chunkFrame, parseMessage, refusal, type Notice, type RemoteError } from "./protocol";

/** What a socket tells us. Nothing follows `close`. */
export interface SocketEvents {
  open(): void;
  message(data: unknown): void;
  close(code: number, reason: string): void;
}

/** The part of a WebSocket that we use. `close` may be called at any time, `send` throws unless it is open. */
export interface SocketLike {
  send(data: string | Uint8Array<ArrayBuffer>): void;
  close(code?: number): void;
  /** Bytes given to `send` that the network has not taken yet. */
  readonly bufferedAmount?: number;
}

export type OpenSocket = (url: string, events: SocketEvents) => SocketLike;

/** A browser's WebSocket. */
export const openWebSocket: OpenSocket = (url, events) => {
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  socket.addEventListener("open", () => events.open());
  socket.addEventListener("message", (event) => events.message(event.data));
  socket.addEventListener("close", (event) => events.close(event.code, event.reason));
  return socket;
};

export interface ChunkOutcome {
  digest: string;
  /** Undefined: the chunk is stored. */
  error?: RemoteError;
}

/** While so many bytes wait for the network, nothing that may be lost is added to them. */
const MOST_BUFFERED = 128 << 10;

interface Waiting {
  resolve(body: Record<string, unknown>): void;
  reject(error: Error): void;
  timer: ReturnType<typeof setTimeout>;
}

export class Connection {
  /** Resolves when the socket is open, rejects when it closes before. */
  readonly opened: Promise<void>;
  /** Resolves with the close code, whoever closed. Never rejects. */
  readonly closed: Promise<number>;
  onHint: (hint: string, seq: number) => void = () => undefined;
  onChunk: (outcome: ChunkOutcome) => void = () => undefined;
  onNotice: (notice: Notice) => void = () => undefined;
  /** Anything at all has come. */
  onHeard: () => void = () => undefined;
  /** A binary frame: what the holder's terminal shows, while we watch. */
  onScreen: (frame: Uint8Array) => void = () => undefined;
  /** Bytes of everything sent, for the statistics. */
  sentBytes = 0;

  private readonly socket: SocketLike;
  private readonly waiting = new Map<number, Waiting>();
  private readonly underWay = new Set<string>();
  private window = 0;
  private nextId = 1;
  private over = false;
  private settleOpen!: { resolve(): void; reject(error: Error): void };
  private settleClosed!: (code: number) => void;

  constructor(openSocket: OpenSocket, url: string, openTimeoutMs: number) {
    this.opened = new Promise((resolve, reject) => (this.settleOpen = { resolve, reject }));
    this.opened.catch(() => undefined);
    this.closed = new Promise((resolve) => (this.settleClosed = resolve));
    const timer = setTimeout(() => this.end(1006, "no connection in time"), openTimeoutMs);
    void this.closed.then(() => clearTimeout(timer));
    this.socket = openSocket(url, {
      open: () => {
        clearTimeout(timer);
        this.settleOpen.resolve();
      },
      message: (data) => this.receive(data),
      close: (code, reason) => this.end(code, reason || `code ${code}`),
    });
  }

  /** Frames that may be sent now. */
  get credit(): number {
    return Math.max(0, this.window - this.underWay.size);
  }

  get chunksUnderWay(): number {
    return this.underWay.size;
  }

  /** Sets the window that the lease granted. What is already under way counts against it. */
  grantCredit(window: number): void {
    this.window = window;
  }

  /** Sends a request and waits for its answer. No answer in time means a dead connection: it is closed. */
  request(type: string, body: Record<string, unknown>, timeoutMs: number): Promise<Record<string, unknown>> {
    if (this.over) return Promise.reject(new ConnectionLost("closed"));
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.end(1006, `no answer to ${type} in time`), timeoutMs);
      this.waiting.set(id, { resolve, reject, timer });
      this.transmit(JSON.stringify({ ...body, type, id }));
    });
  }

  /** Tells the server something without waiting: for a page that is going away. */
  tell(type: string, body: Record<string, unknown>): void {
    if (!this.over) this.transmit(JSON.stringify({ ...body, type, id: this.nextId++ }));
  }

  /** Sends one chunk; costs one credit until its outcome arrives at `onChunk`. */
  sendChunk(digest: string, frame: Uint8Array): void {
    if (this.over) throw new ConnectionLost("closed");
    if (this.credit < 1) throw new Bug("a chunk was sent without credit");
    this.underWay.add(digest);
    this.transmit(chunkFrame(digest, frame));
  }

  /** Sends a frame that may be lost; false when it is, since what was sent before is still on its way. */
  sendLossy(frame: Uint8Array<ArrayBuffer>): boolean {
    if (this.over || (this.socket.bufferedAmount ?? 0) > MOST_BUFFERED) return false;
    this.transmit(frame);
    return true;
  }

  /** Gives the connection up. A dead network never fires `onclose` in time, so nothing here waits for it. */
  abandon(reason: string): void {
    this.end(1006, reason);
  }

  private transmit(data: string | Uint8Array<ArrayBuffer>): void {
    this.sentBytes += data.length;
    try {
      this.socket.send(data);
    } catch {
      this.end(1006, "the socket is not open");
    }
  }

  private receive(data: unknown): void {
    if (this.over) return;
    this.onHeard();
    let message;
    try {
      if (data instanceof ArrayBuffer) return this.onScreen(new Uint8Array(data));
      if (typeof data !== "string") throw new Bug("the service sent what is neither text nor bytes");
      message = parseMessage(data);
    } catch (error) {
      this.end(1006, error instanceof Error ? error.message : "bad frame");
      return;
    }
    switch (message.kind) {
      case "answer": {
        const waiting = this.waiting.get(message.id);
        if (!waiting) return; // a second answer to the same request
        this.waiting.delete(message.id);
        clearTimeout(waiting.timer);
        if (message.ok) waiting.resolve(message.body);
        else waiting.reject(refusal(message.error));
        return;
      }
      case "stored":
        if (this.underWay.delete(message.digest)) this.onChunk({ digest: message.digest });
        return;
      case "refused":
        if (this.underWay.delete(message.digest))
          this.onChunk({ digest: message.digest, error: message.error });
        return;
      case "hint":
        this.onHint(message.hint, message.seq);
        return;
      case "notice":
        this.onNotice(message.notice);
    }
  }

  private end(code: number, reason: string): void {
    if (this.over) return;
    this.over = true;
    const lost = new ConnectionLost(reason);
    this.settleOpen.reject(lost);
    for (const waiting of this.waiting.values()) {
      clearTimeout(waiting.timer);
      waiting.reject(lost);
    }
    this.waiting.clear();
    this.underWay.clear();
    this.settleClosed(code);
    try {
      this.socket.close(1000);
    } catch {
      // already closed
    }
  }
}
