/** Typed listeners. A listener that throws is reported and does not keep the others from hearing the event. */
export class Emitter<Events> {
  private readonly listeners = new Map<keyof Events, Set<unknown>>();

  on<K extends keyof Events>(event: K, listener: Events[K]): () => void {
    const all = this.listeners.get(event) ?? new Set();
    this.listeners.set(event, all);
    all.add(listener);
    return () => void all.delete(listener);
  }

  protected emit<K extends keyof Events>(
    event: K,
    ...values: Events[K] extends (...args: infer A) => void ? A : never
  ): void {
    for (const listener of [...(this.listeners.get(event) ?? [])]) {
      try {
        (listener as (...args: unknown[]) => void)(...values);
      } catch (error) {
        console.error(error);
      }
    }
  }
}
