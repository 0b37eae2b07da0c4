/** The frames of a save that goes to the journal and to the service side by side: whoever asks second gets what the first had made. */

/** So many are kept for the slower of the two; at most 256 KiB each. */
const MOST = 32;

export class SharedFrames {
  /** Asked for once so far, oldest first. */
  private readonly made = new Map<string, Promise<Uint8Array>>();

  constructor(private readonly make: (digest: string) => Promise<Uint8Array>) {}

  /** The zstd frame of a chunk. */
  frame(digest: string): Promise<Uint8Array> {
    const made = this.made.get(digest);
    if (made) {
      this.made.delete(digest);
      return made;
    }
    const frame = this.make(digest);
    this.made.set(digest, frame);
    const [oldest] = this.made.keys();
    if (oldest !== undefined && this.made.size > MOST) this.made.delete(oldest);
    return frame;
  }
}
