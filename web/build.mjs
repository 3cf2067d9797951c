// Bundles what runs in browsers, into build/web and build/console.html: the library, edgelabel.js, and beside it the trainer, which is loaded when
// something trains; the playground, a page that uses the library, with an example model; and the page of the service.
import { copyFile, mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build, transform } from "esbuild";
import { parse, train } from "../build/host/index.js";
import { CHART_STYLE } from "../build/host/report/chart.js";
import { HEAT_STYLE } from "../build/host/report/heat-map.js";
import { THEME } from "../build/host/report/theme.js";

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const shared = {
  outdir: at("../build/web"),
  bundle: true,
  splitting: true,
  format: "esm",
  platform: "browser",
  target: "es2022",
  minify: true,
};
const resolving = (filter, to) => ({ name: "resolving", setup: ({ onResolve }) => onResolve({ filter }, () => to) });

await build({
  ...shared,
  entryPoints: { edgelabel: at("index.ts") },
  chunkNames: "edgelabel-[name]",
  plugins: [resolving(/\/artefact\.ts$/, { path: at("artefact.ts") }), { name: "bytes", setup: loadBytes }],
});
await build({
  ...shared,
  entryPoints: { playground: at("playground/main.ts"), "playground-worker": at("playground/worker.ts") },
  chunkNames: "playground-[name]",
  loader: { ".tsv": "text" },
  // The library is the file beside it.
  plugins: [resolving(/^\.\.\/index\.ts$/, { path: "./edgelabel.js", external: true })],
});
const style = THEME + HEAT_STYLE + CHART_STYLE + (await readFile(at("playground/playground.css"), "utf8"));
await writeFile(at("../build/web/playground.css"), await minified(style));
await copyFile(at("index.html"), at("../build/web/index.html"));
await makeExample();
await makeConsole();

async function minified(css) {
  return (await transform(css, { loader: "css", minify: true })).code;
}

/** The page of the service, in one file, of which its policy has the digests. */
async function makeConsole() {
  const { splitting: _, ...single } = shared;
  const { outputFiles } = await build({ ...single, entryPoints: [at("console/main.ts")], write: false });
  const page = await readFile(at("console/index.html"), "utf8");
  const parts = {
    "<style></style>": `<style>${await minified(style + (await readFile(at("console/console.css"), "utf8")))}</style>`,
    '<script type="module"></script>': `<script type="module">${outputFiles[0].text}</script>`,
  };
  // Not as a pattern, in which $ would mean something.
  const filled = Object.entries(parts).reduce((html, [place, part]) => html.replace(place, () => part), page);
  await writeFile(at("../build/console.html"), filled);
}

/** A character for each byte: base64 would keep gzip from seeing what recurs, and make the trainer a fifth larger. */
function loadBytes({ onLoad }) {
  onLoad({ filter: /\.wasm$/ }, async ({ path }) => {
    // As artefact.ts undoes: so fewer of the bytes need an escape, and the file is 5 % smaller when compressed.
    const bytes = (await readFile(path)).map((byte) => byte ^ 50);
    return { contents: bytes.toString("latin1"), loader: "text" };
  });
}

/** A small model of the example messages, for the playground to begin with; made anew if what it is made of has changed. */
async function makeExample() {
  const [messages, model] = [at("../host/demo/messages.tsv"), at("../build/web/example.elb")];
  const changed = async (path) => (await stat(path)).mtimeMs;
  const sources = await Promise.all([messages, at("build.mjs"), at("../build/trainer.wasm")].map(changed));
  if ((await changed(model).catch(() => 0)) > Math.max(...sources)) return;
  const trained = await train(parse(await readFile(messages), "messages.tsv"), {
    ...{ name: "house", units: 16, embeddingDim: 24, ngramBuckets: 1024, linear: false, valid: 0.15, unknown: 0.1 },
  });
  await mkdir(at("../build/web"), { recursive: true });
  await writeFile(model, (await trained.deployed()).elb);
}
