/** Builds the machines for Node: frontend/dist-node/headless.js, with their wasm beside it. */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { defineConfig, type Plugin } from "vite";

const v86 = join(dirname(createRequire(import.meta.url).resolve("v86")), "..");

const WASM = {
  "v86.wasm": join(v86, "build", "v86.wasm"),
  "core.wasm": join(import.meta.dirname, "dist-engine", "core.wasm"),
};

function emitWasm(): Plugin {
  return {
    name: "emit-wasm",
    generateBundle() {
      for (const [fileName, path] of Object.entries(WASM)) {
        this.emitFile({ type: "asset", fileName, source: readFileSync(path) });
      }
    },
  };
}

const { version } = JSON.parse(readFileSync(join(v86, "package.json"), "utf8")) as { version: string };

export default defineConfig({
  plugins: [emitWasm()],
  define: { __V86_VERSION__: JSON.stringify(version) },
  publicDir: false,
  // Everything is bundled: the result runs where no node_modules is.
  ssr: { noExternal: true },
  build: {
    ssr: "src/headless/main.ts",
    outDir: "dist-node",
    emptyOutDir: true,
    target: "node20",
    rolldownOptions: { output: { entryFileNames: "headless.js" } },
  },
});
