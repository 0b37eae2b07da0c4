import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

const OUT = resolve(import.meta.dirname, "dist");

/** Writes `.br` and `.gz` beside each asset: WhiteNoise serves those to browsers that take them (the emulator is a fifth of its size). */
function compressed(): Plugin {
  let folder = OUT;
  return {
    name: "compressed",
    apply: "build",
    configResolved: (config) => {
      folder = resolve(config.root, config.build.outDir, "assets");
    },
    closeBundle: () => {
      for (const name of readdirSync(folder)) {
        if (!/\.(js|css|wasm)$/.test(name)) continue;
        const path = join(folder, name);
        const raw = readFileSync(path);
        const params = {
          [constants.BROTLI_PARAM_QUALITY]: 9,
          [constants.BROTLI_PARAM_SIZE_HINT]: raw.length,
        };
        writeFileSync(`${path}.br`, brotliCompressSync(raw, { params }));
        writeFileSync(`${path}.gz`, gzipSync(raw));
      }
    },
  };
}

// The entries, found by Django through the manifest. Everything is an external file of our own origin: the pages'
// Content-Security-Policy allows no inline script, no data: module and no eval beyond WebAssembly.
export default defineConfig({
  base: "/static/app/",
  plugins: [compressed()],
  build: {
    outDir: OUT,
    manifest: true,
    target: "es2022",
    assetsInlineLimit: 0,
    sourcemap: false,
    chunkSizeWarningLimit: 1024,
    rolldownOptions: {
      input: {
        early: resolve(import.meta.dirname, "src/machine/early.ts"),
        console: resolve(import.meta.dirname, "src/console/main.ts"),
        pages: resolve(import.meta.dirname, "src/pages/main.ts"),
      },
    },
  },
  worker: { format: "es" },
  test: { include: ["src/**/*.test.ts", "engine/**/*.test.ts"], environment: "node" },
});
