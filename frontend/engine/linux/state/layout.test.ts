import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { prototypeOf } from "./classes.ts";
import { LAYOUT } from "./state.ts";

const LINUX = join(import.meta.dirname, "..");
const RECORD = join(import.meta.dirname, "layout.json");
/** What no saved machine has: errors, helpers of one call, the core's instances, doubles of tests. */
const NEVER_SAVED = new Set([
  ...["Block", "DiskFormatError", "EngineError", "Errno", "StateError"],
  ...["Position", "Recent", "Registers", "CachedPage", "CorePool", "TranslatedFunctions"],
  ...["CallerFiles", "CallerKernel", "CallerMemory", "SlowDevice", "Decoder", "Encoder", "Places"],
]);

/** Fields by class, as the sources declare them. */
function classesIn(source: string): Map<string, { fields: string[]; isAbstract: boolean }> {
  const found = new Map<string, { fields: string[]; isAbstract: boolean }>();
  for (const part of source.split(/^(?=(?:export )?(?:abstract )?class )/m).slice(1)) {
    const [, abstract, name] = /^(?:export )?(abstract )?class (\w+)/.exec(part)!;
    const body = part.slice(0, part.search(/^}/m));
    const fields = [
      ...body.matchAll(/^ {2}(?:(?:private|protected|readonly|override|abstract) )*(\w+)(?=[?!]?: |;| = )/gm),
    ];
    const own = fields.map(([, field]) => field!).filter((field) => field !== "static");
    found.set(name!, { fields: own.sort(), isAbstract: abstract !== undefined });
  }
  return found;
}

const classes = new Map(
  readdirSync(LINUX, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts"))
    .sort()
    .flatMap((name) => [...classesIn(readFileSync(join(LINUX, name), "utf8"))]),
);

describe("the layout of saved machines", () => {
  it("knows every class", () => {
    const unknown = [...classes].filter(
      ([name, { isAbstract }]) => !isAbstract && !NEVER_SAVED.has(name) && prototypeOf(name) === undefined,
    );
    expect(unknown.map(([name]) => name)).toEqual([]);
  });

  it("has a higher LAYOUT when a class has other fields (UPDATE_LAYOUT=1 then records them, prettier lays them out)", () => {
    const fields = Object.fromEntries(
      [...classes].filter(([name]) => !NEVER_SAVED.has(name)).map(([name, { fields: own }]) => [name, own]),
    );
    const now = { layout: LAYOUT, fields };
    const before = JSON.parse(readFileSync(RECORD, "utf8")) as typeof now;
    if (process.env["UPDATE_LAYOUT"] !== undefined && LAYOUT > before.layout) {
      writeFileSync(RECORD, `${JSON.stringify(now, undefined, 2)}\n`);
      return;
    }
    expect(now).toEqual(before);
  });
});
