/** The core's wasm module for the runner: built when it is missing. */

import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ENGINE = dirname(dirname(fileURLToPath(import.meta.url)));
const BUILT = join(dirname(ENGINE), "dist-engine", "core.wasm");

/** Throws with what to do when there is no core and none can be built. */
export function loadCore(path: string | undefined): WebAssembly.Module {
  const file = path ?? BUILT;
  if (path === undefined && !existsSync(file)) {
    const script = join(ENGINE, "build.py");
    const build = spawnSync("uv", ["run", "python", script, "--only", "wasm"], { encoding: "utf8" });
    if (build.status !== 0) {
      const why = build.error?.message ?? `${build.stdout}${build.stderr}`;
      throw new Error(`the core is not built; run: uv run python ${script} --only wasm\n${why}`);
    }
  }
  return new WebAssembly.Module(readFileSync(file));
}
