// Makes the pictures of the README from the program itself and from the tables of bench/README.md:
//   npm run docs:pictures
//   node docs/pictures.mjs numbers [-]     only the plot; with -, to standard output
//   node docs/pictures.mjs node-red        only that
// terminal.svg is a session in a pseudo-terminal (`script` of util-linux), node-red.png is Node-RED's editor in
// Chromium with the first of the examples of integrations/node-red, and numbers.svg shows the tables. The models
// are trained anew, so their scores are those of today's recipe. screens.mjs makes the others.
import { execFileSync, spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import xterm from "@xterm/headless";
import { chromium } from "playwright-core";
import { fetchChromium } from "../test/tools/fetch-chromium.mjs";
import { fetchNodeRed } from "../test/tools/fetch-node-red.mjs";
import { fetchWasmtime } from "../test/tools/fetch-wasmtime.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const main = here("../build/host/main.js");
const COLUMNS = 88;
const NODE_RED_PORT = 18801;
const ASKED = "dim the lamp over the sofa";

// --- the terminal --------------------------------------------------------------------

async function terminal(folder) {
  const wasmtime = fetchWasmtime();
  const session = [
    [
      "npx edgelabel train host/demo/messages.tsv -o house.wasm",
      `node ${main} train host/demo/messages.tsv -o house.wasm`,
    ],
    [`npx edgelabel explain house.wasm "${ASKED}"`, `node ${main} explain house.wasm "${ASKED}"`],
    [`echo "水泵没有反应" | wasmtime run house.wasm`, `echo "水泵没有反应" | ${wasmtime} run house.wasm`],
  ];
  const typed = session
    .map(([shown, run]) => `printf '\\e[32m$\\e[0m \\e[1m%s\\e[0m\\n' '${shown}'; ${run}`)
    .join("; echo; ");
  const bytes = execFileSync("script", ["-qec", `stty cols ${COLUMNS} rows 50; ${typed}`, "/dev/null"], {
    cwd: folder,
    env: { ...process.env, TERM: "xterm-256color", SHELL: "/bin/bash" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const screen = new xterm.Terminal({ cols: COLUMNS, rows: 50, allowProposedApi: true });
  await new Promise((resolve) => screen.write(bytes, resolve));
  const lines = Array.from({ length: screen.buffer.active.length }, (_, y) => runsOf(screen.buffer.active.getLine(y)));
  return drawTerminal(lines.slice(0, lines.findLastIndex((runs) => runs.length > 0) + 1));
}

/** A line's cells, joined where they look alike; blank ones without a background are left out. */
function runsOf(line) {
  const runs = [];
  for (let x = 0; x < line.length; x++) {
    const cell = line.getCell(x);
    if (cell.getWidth() === 0) continue;
    const run = {
      x,
      text: cell.getChars() || " ",
      cells: cell.getWidth(),
      fill: colour(cell, "Fg"),
      back: colour(cell, "Bg"),
      bold: cell.isBold() > 0,
    };
    const last = runs.at(-1);
    const alike =
      last &&
      ["fill", "back", "bold"].every((key) => last[key] === run[key]) &&
      last.x + last.cells === x &&
      run.cells === 1 &&
      last.cells === last.text.length;
    if (alike) Object.assign(last, { text: last.text + run.text, cells: last.cells + 1 });
    else runs.push(run);
  }
  return runs
    .filter(({ text, back }) => back || text.trim())
    .map((run) => (run.back ? run : { ...run, text: run.text.trimEnd() }));
}

/** A colour of the 256-colour palette, or undefined for the terminal's own. */
function colour(cell, side) {
  if (cell[`is${side}Default`]()) return undefined;
  const index = cell[`get${side}Color`]();
  if (index < 16)
    return ["#1c2128", "#ff7b72", "#7ee787", "#e3b341", "#79c0ff", "#d2a8ff", "#56d4dd", "#d0d7de"][index % 8];
  const levels = [0, 95, 135, 175, 215, 255];
  const [red, green, blue] = [36, 6, 1].map((unit) => levels[Math.floor((index - 16) / unit) % 6]);
  return `rgb(${red},${green},${blue})`;
}

function drawTerminal(lines) {
  const [cell, height, left, top] = [9.3, 22, 20, 52];
  const width = Math.round(COLUMNS * cell + 2 * left);
  const tall = top + lines.length * height + 14;
  const drawn = lines.flatMap((runs, row) =>
    runs.map(({ x, text, cells, fill, back, bold }) => {
      const at = (left + x * cell).toFixed(1);
      const box = back
        ? `<rect x="${at}" y="${top + row * height - 1}" width="${(cells * cell).toFixed(1)}" height="${height - 1}" rx="2" fill="${back}"/>`
        : "";
      // Fonts differ in width; a wide character is a run of its own.
      const size = ((cells > 1 && text.length === 1 ? cells : text.length) * cell).toFixed(1);
      return `${box}<text x="${at}" y="${top + row * height + 15}" textLength="${size}" lengthAdjust="spacingAndGlyphs"${fill ? ` style="fill:${fill}"` : ""}${bold ? ' font-weight="700"' : ""}>${escape(text)}</text>`;
    }),
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${tall}" width="${width}" height="${tall}" role="img" aria-label="A terminal: a model is trained, explains an answer, and runs under wasmtime">
<style>text{font:15.5px ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#d0d7de;white-space:pre}</style>
<rect x=".5" y=".5" width="${width - 1}" height="${tall - 1}" rx="9" fill="#161b22" stroke="#3d444d"/>
${["#ff5f57", "#febc2e", "#28c840"].map((dot, i) => `<circle cx="${22 + 20 * i}" cy="22" r="6" fill="${dot}"/>`).join("")}
${drawn.join("\n")}
</svg>
`;
}

async function photograph(url, viewport, take) {
  const browser = await chromium.launch({ executablePath: fetchChromium(), args: ["--no-sandbox", "--disable-gpu"] });
  try {
    const tab = await browser.newPage({ viewport, deviceScaleFactor: 1.5 });
    await tab.goto(url);
    await take(tab);
  } finally {
    await browser.close();
  }
}

// --- Node-RED -------------------------------------------------------------------------

async function nodeRed(folder) {
  const modules = join(folder, "node_modules");
  mkdirSync(modules);
  symlinkSync(here(".."), join(modules, "edgelabel"));
  cpSync(here("../integrations/node-red"), join(modules, "node-red-contrib-edgelabel"), { recursive: true });
  const settings = {
    uiPort: NODE_RED_PORT,
    uiHost: "127.0.0.1",
    flowFile: "flows.json",
    credentialSecret: false,
    editorTheme: { tours: false },
    telemetry: { enabled: false, updateNotification: false },
  };
  writeFileSync(join(folder, "settings.js"), `module.exports = ${JSON.stringify(settings)};`);
  const examples = here("../integrations/node-red/examples/");
  const flow = JSON.parse(readFileSync(join(examples, readdirSync(examples)[0]), "utf8"));
  writeFileSync(join(folder, "flows.json"), JSON.stringify(flow));
  const program = spawn(process.execPath, [fetchNodeRed(), "--userDir", folder], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    let said = "";
    program.stdout.on("data", (chunk) => (said += chunk));
    await until(() => said.includes("Started flows") && said.includes("Server now running"));
    await photograph(`http://127.0.0.1:${NODE_RED_PORT}/`, { width: 1340, height: 560 }, async (tab) => {
      await tab.locator(`[id="${flow.at(-1).id}"]`).waitFor();
      await tab.locator("#red-ui-palette-search input").pressSequentially("edgelabel", { delay: 50 });
      await tab.locator("#red-ui-tab-debug-link-button").click();
      // As a visitor would, from top to bottom; the first one trains.
      const [first, ...others] = flow.filter(({ type }) => type === "inject");
      const press = ({ id }) => tab.locator(`[id="${id}"] .red-ui-flow-node-button-button`).click();
      await press(first);
      await tab.getByText("trained", { exact: true }).waitFor({ timeout: 120_000 });
      for (const inject of others) {
        await press(inject);
        await tab.waitForTimeout(500);
      }
      // Notifications and the last click go before.
      await tab.mouse.click(700, 500);
      await tab.waitForTimeout(6_000);
      await tab.screenshot({ path: here("node-red.png") });
    });
  } finally {
    program.kill();
  }
}

async function until(condition) {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 50));
}

// --- the numbers -----------------------------------------------------------------------

/** The rows of the first table behind a heading, as objects by column. */
function tableOf(markdown, heading) {
  const start = markdown.indexOf(heading);
  if (start < 0) throw new Error(`bench/README.md has no "${heading}"`);
  const [head, , ...rows] = /(?:^\|.*\n)+/m
    .exec(markdown.slice(start))[0]
    .trim()
    .split("\n")
    .map((line) =>
      line
        .split("|")
        .slice(1, -1)
        .map((value) => value.trim().replaceAll(/[*`]/g, "")),
    );
  return rows.map((row) => Object.fromEntries(row.map((value, i) => [head[i], value])));
}

/** What is drawn of the table of times, by its names there: a peer's fastest form. */
const PEERS = {
  "edgelabel int8, node": "edgelabel",
  "edgelabel --recipe fast, int8, node": "edgelabel, fast",
  "fastText, Python predict": "fastText",
  "ONNX Runtime int8, node": "ONNX Runtime",
  "LiteRT dynamic int8, fused": "LiteRT",
  "ONNX Runtime Web int8 (wasm)": "ONNX Runtime Web",
  "Keras tf.function": "Keras",
  "TensorFlow.js wasm": "TensorFlow.js",
};
const MARKS = { edgelabel: "ours", "SVM on TF-IDF": "ring", fastText: "diamond" };

function numbers(markdown) {
  const times = tableOf(markdown, "### snips: the whole path")
    .filter((row) => row[""] in PEERS)
    .map((row) => ({ name: PEERS[row[""]], us: Number(row["median µs"]) }))
    .sort((a, b) => a.us - b.us);
  if (times.length !== Object.keys(PEERS).length)
    throw new Error("bench/README.md has other names for the peers on snips");
  const accuracies = tableOf(markdown, "### Beside other methods");
  const [width, height, top, step] = [860, 366, 92, 28];
  const log = (us) => 152 + (Math.log10(us) / 3.2) * 205;
  const share = (percent) => 540 + ((percent - 79) / 21) * 250;
  const bars = times.map(({ name, us }, i) => {
    const y = top + i * step;
    const ours = name.startsWith("edgelabel") ? " ours" : "";
    return (
      `<text class="name${ours}" x="142" y="${y + 5}">${name}</text><rect class="bar${ours}" x="152" y="${y - 8}" width="${(log(us) - 152).toFixed(1)}" height="16" rx="2"/>` +
      `<text class="value${ours}" x="${(log(us) + 7).toFixed(1)}" y="${y + 5}">${us < 100 ? us.toFixed(1) : us.toFixed(0)}</text>`
    );
  });
  const rows = accuracies.map((row, i) => {
    const y = top + i * 42 + 6;
    const marks = Object.entries(MARKS).map(([method, mark], k) =>
      drawMark(mark, share(Number(row[method])), y + [0, -8, 8][k]),
    );
    return `<text class="name" x="526" y="${y + 5}">${row.set}</text><path class="grid" d="M540 ${y}H790"/>${marks.join("")}<text class="value ours" x="804" y="${y + 5}">${row.edgelabel}</text>`;
  });
  const ticks = [80, 85, 90, 95, 100].map(
    (at) =>
      `<path class="grid" d="M${share(at)} ${top - 14}V${height - 46}"/><text class="tick" x="${share(at)}" y="${height - 28}">${at}</text>`,
  );
  const decades = [1, 10, 100, 1000].map(
    (at) =>
      `<path class="grid" d="M${log(at)} ${top - 14}V${height - 46}"/><text class="tick" x="${log(at)}" y="${height - 28}">${at}</text>`,
  );
  const legend = Object.entries(MARKS).map(([method, mark], i) => {
    const x = 452 + [0, 96, 222][i];
    return `${drawMark(mark, x, 56)}<text class="key" x="${x + 11}" y="60">${method}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="Times and accuracies of edgelabel and its peers, from bench/README.md">
<style>
.card{fill:#fff;stroke:#d1d9e0}text{font:13px system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif;fill:#1f2328}.title{font-weight:600;font-size:14px}
.name{text-anchor:end}.tick{text-anchor:middle;font-size:11px}.tick,.key,.unit{fill:#59636e}.key,.unit{font-size:12px}.grid{stroke:#d1d9e0}
.bar{fill:#afb8c1}.bar.ours,.mark.ours{fill:#d55e00;stroke:none}.name.ours,.value.ours{font-weight:700;fill:#b34e00}.mark{fill:none;stroke:#59636e;stroke-width:1.8}
@media(prefers-color-scheme:dark){.card{fill:#161b22;stroke:#3d444d}text{fill:#f0f6fc}.tick,.key,.unit{fill:#9198a1}.grid{stroke:#3d444d}.bar{fill:#656c76}.bar.ours,.mark.ours,.name.ours,.value.ours{fill:#f0883e}.mark{stroke:#b1bac4}}
</style>
<rect class="card" x=".5" y=".5" width="${width - 1}" height="${height - 1}" rx="9"/>
<text class="title" x="24" y="32">One text to its label, µs</text><text class="unit" x="24" y="52">snips, one core, medians; the axis is logarithmic</text>
<text class="title" x="444" y="32">Test accuracy, %</text>${legend.join("")}
${decades.join("")}${bars.join("\n")}
${ticks.join("")}${rows.join("\n")}
</svg>
`;
}

function drawMark(mark, x, y) {
  const at = (dx, dy) => `${(x + dx).toFixed(1)} ${y + dy}`;
  if (mark === "ours") return `<circle class="mark ours" cx="${x.toFixed(1)}" cy="${y}" r="6"/>`;
  if (mark === "ring") return `<circle class="mark" cx="${x.toFixed(1)}" cy="${y}" r="4.5"/>`;
  return `<path class="mark" d="M${at(0, -5.5)}L${at(5.5, 0)}L${at(0, 5.5)}L${at(-5.5, 0)}Z"/>`;
}

function escape(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

// --- all of them -----------------------------------------------------------------------

const [, , only, out] = process.argv;
const folder = mkdtempSync(join(tmpdir(), "edgelabel-pictures-"));
try {
  if (only === undefined || only === "numbers") {
    const plot = numbers(readFileSync(here("../bench/README.md"), "utf8"));
    if (out === "-") process.stdout.write(plot);
    else writeFileSync(here("numbers.svg"), plot);
  }
  if (only === undefined) {
    symlinkSync(here("../host"), join(folder, "host"));
    writeFileSync(here("terminal.svg"), await terminal(folder));
  }
  if (only === undefined || only === "node-red") await nodeRed(folder);
} finally {
  rmSync(folder, { recursive: true });
}
