/**
 * What a fresh machine is made of before anything runs in it. Such objects are found again in another fresh machine by their path from
 * the top, and so are its functions: so a saved machine names what cannot be written down, and closures see what was restored.
 */

import { isOpaque } from "./classes.ts";

type Step = string | number;

/** By object or function. A path is names of fields, and of what has no name the place: "kernel/scheduler", "vfs/mounts/0/fs". */
export type Anchors = Map<object, string>;

function isNode(value: unknown): value is object {
  return (typeof value === "object" && value !== null) || typeof value === "function";
}

/** What is in an object, and how to get there. */
function* partsOf(node: object): Iterable<[Step, unknown]> {
  if (node instanceof Map) {
    let at = 0;
    for (const [key, value] of node) {
      yield [typeof key === "object" ? `=${at}` : `:${String(key)}`, value];
      if (typeof key === "object") yield [`-${at}`, key];
      at += 1;
    }
  } else if (node instanceof Set) {
    let at = 0;
    for (const value of node) yield [at++, value];
  } else if (Array.isArray(node)) {
    yield* node.entries();
  } else if (!ArrayBuffer.isView(node) && !(node instanceof ArrayBuffer) && typeof node !== "function") {
    yield* Object.entries(node);
  }
}

/** Names everything that can be reached from `roots`; the shortest path counts. */
export function nameAnchors(roots: Record<string, object>): Anchors {
  const anchors: Anchors = new Map();
  let level: [string, object][] = Object.entries(roots);
  while (level.length > 0) {
    const next: [string, object][] = [];
    for (const [path, node] of level) {
      if (anchors.has(node)) continue;
      anchors.set(node, path);
      if (isOpaque(node)) continue;
      for (const [step, value] of partsOf(node)) {
        if (isNode(value) && !anchors.has(value)) next.push([`${path}/${step}`, value]);
      }
    }
    level = next;
  }
  return anchors;
}

/** What is at that path; undefined: nothing that is an object. */
export function findAnchor(roots: Record<string, object>, path: string): object | undefined {
  const steps = path.split("/");
  let node: unknown = roots[steps.shift()!];
  for (let at = 0; at < steps.length; at += 1) {
    if (!isNode(node)) return undefined;
    // A key may have slashes itself.
    const rest = steps.slice(at).join("/");
    const found = [...partsOf(node)].find(([step]) => {
      const name = String(step);
      return rest === name || rest.startsWith(`${name}/`);
    });
    if (found === undefined) return undefined;
    node = found[1];
    at += String(found[0]).split("/").length - 1;
  }
  return isNode(node) ? node : undefined;
}
