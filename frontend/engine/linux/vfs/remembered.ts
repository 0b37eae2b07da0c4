/** A cache of objects that must be one for each key while anybody has them, and may go when nobody does. */

export class Remembered<K, V extends object> {
  private readonly entries = new Map<K, WeakRef<V>>();
  private sweepAt = 1024;

  get(key: K): V | undefined {
    return this.entries.get(key)?.deref();
  }

  set(key: K, value: V): void {
    this.entries.set(key, new WeakRef(value));
    if (this.entries.size >= this.sweepAt) this.sweep();
  }

  delete(key: K): void {
    this.entries.delete(key);
  }

  *values(): Iterable<V> {
    for (const reference of this.entries.values()) {
      const value = reference.deref();
      if (value !== undefined) yield value;
    }
  }

  /** Everything that is still there. */
  *all(): Iterable<[K, V]> {
    for (const [key, reference] of this.entries) {
      const value = reference.deref();
      if (value !== undefined) yield [key, value];
    }
  }

  private sweep(): void {
    for (const [key, reference] of this.entries) {
      if (reference.deref() === undefined) this.entries.delete(key);
    }
    this.sweepAt = Math.max(1024, this.entries.size * 2);
  }
}

/** Keeps what was used lately from being collected. */
export class Recent<V> {
  private readonly ring: (V | undefined)[];
  private next = 0;

  constructor(size: number) {
    this.ring = new Array<V | undefined>(size);
  }

  use(value: V): void {
    this.ring[this.next] = value;
    this.next = (this.next + 1) % this.ring.length;
  }
}
