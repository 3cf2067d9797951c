// Bundles the library for browsers: build/web/edgelabel.js, and beside it the trainer, which is loaded when something trains.
import { copyFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const at = (path) => fileURLToPath(new URL(path, import.meta.url));

await build({
  entryPoints: { edgelabel: at("index.ts") },
  outdir: at("../build/web"),
  bundle: true,
  splitting: true,
  chunkNames: "edgelabel-[name]",
  format: "esm",
  platform: "browser",
  target: "es2022",
  minify: true,
  loader: { ".wasm": "base64" },
  plugins: [
    {
      name: "artefact",
      setup: ({ onResolve }) => onResolve({ filter: /\/artefact\.ts$/ }, () => ({ path: at("artefact.ts") })),
    },
  ],
});
await copyFile(at("index.html"), at("../build/web/index.html"));
