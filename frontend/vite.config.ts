import { resolve } from "node:path";
import { defineConfig } from "vitest/config";

// Two entries, found by Django through the manifest. Everything is an external file of our own origin: the pages'
// Content-Security-Policy allows no inline script, no data: module and no eval beyond WebAssembly.
export default defineConfig({
  base: "/static/app/",
  build: {
    outDir: "dist",
    manifest: true,
    target: "es2022",
    assetsInlineLimit: 0,
    sourcemap: false,
    chunkSizeWarningLimit: 1024,
    rolldownOptions: {
      input: {
        console: resolve(import.meta.dirname, "src/console/main.ts"),
        pages: resolve(import.meta.dirname, "src/pages/main.ts"),
      },
    },
  },
  worker: { format: "es" },
  test: { include: ["src/**/*.test.ts"], environment: "node" },
});
