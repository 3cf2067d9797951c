// Makes the pictures of the pages, docs/pages/*.webp and docs/playground*.webp, from the program itself:
//   npm run docs:pictures
//   node docs/screens.mjs [NAME…]      only these; after npm run build
// Each picture of docs/pages shows one state, on a desk and on a phone, in light and in dark.
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { chromium } from "playwright-core";
import { fetchChromium } from "../test/tools/fetch-chromium.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const main = here("../build/host/main.js");
const DESK = { width: 1000, height: 700 };
const PHONE = { width: 390, height: 700 };
/** What is lower than this is cut off. */
const TALLEST = 1900;
const EXPLAINED = ["dim the lamp over the sofa", "pressure sensor 5 timeout, motor stopped", "卧室太热了，把空调打开"];

const messages = readFileSync(here("../host/demo/messages.tsv"), "utf8").trimEnd().split("\n");
/** Columns with other names, a conflict, a copy, and a label of two texts. */
const table = [
  "id,message,kind",
  ...messages.slice(0, 300).map((line, i) => {
    const [label, text] = line.split("\t");
    return `${i + 1},"${text.replaceAll('"', '""')}",${label}`;
  }),
  `301,"${messages[0].split("\t")[1]}",alarm`,
  `302,"${messages[1].split("\t")[1]}",weather`,
  "303,thanks a lot,smalltalk",
  "304,good night then,smalltalk",
  "",
].join("\n");

const paste = async (tab) => {
  await tab.click("#train-tab");
  await tab.fill("#texts", table);
  await tab.selectOption("#label-column", "kind");
  await tab.waitForSelector("#run .primary");
};
const type = (tab, text) =>
  tab.evaluate((value) => {
    const box = document.getElementById("text");
    box.value = value;
    box.dispatchEvent(new Event("input"));
  }, text);

/** States of the playground, by the names of their pictures. */
const PLAYGROUND = {
  "playground-empty": async () => {},
  "playground-filled": (tab) => type(tab, EXPLAINED[0]),
  "playground-unknown": (tab) => type(tab, "lorem ipsum dolor sit amet"),
  "playground-long": (tab) =>
    type(tab, "the lamp in the hallway is far too bright at night and I would like it dimmed ".repeat(120)),
  "playground-error": async (tab) => {
    await tab.setInputFiles("#model", here("../build/engine.wasm"));
    await tab.waitForSelector("#note:not([hidden])");
  },
  "playground-data": async (tab) => {
    await paste(tab);
    for (const summary of await tab.locator("#train summary").all()) await summary.click();
  },
  "playground-bad-data": async (tab) => {
    await tab.click("#train-tab");
    await tab.fill("#texts", "label,text\nlights,switch it on, now\nclimate\n");
    await tab.waitForSelector("#about .alert");
  },
  "playground-running": async (tab) => {
    await paste(tab);
    await tab.click("#run .primary");
    await tab.waitForFunction(() => document.querySelectorAll(".charts circle.second").length > 30, undefined, {
      timeout: 120_000,
    });
    await tab.evaluate(() => document.getElementById("run").scrollIntoView());
  },
  "playground-trained": async (tab) => {
    await paste(tab);
    await tab.click("#run .primary");
    await tab.waitForSelector("dl.figures", { timeout: 120_000 });
    await tab.locator(".matrix .wrong button").first().click();
    await tab.locator("#run .chips button").first().click();
    await tab.evaluate(() => document.querySelectorAll("#train > div > :not(#run)").forEach((each) => each.remove()));
  },
};

const ready = async (tab) => {
  await tab.waitForSelector("#charts circle");
  await tab.fill("#text", EXPLAINED[0]);
  await tab.waitForSelector("#try p.best, #try .alert");
};

/** States of the console, by the names of their pictures. */
const CONSOLE = {
  console: async (tab) => {
    await tab.click("text=Evaluate");
    await tab.waitForSelector("#statuses .successful");
    await tab.waitForSelector(".label-box .quoted");
    await ready(tab);
    // Until the charts show something.
    await tab.waitForTimeout(20_000);
  },
  "console-reader": ready,
  "console-away": async (tab, context) => {
    await ready(tab);
    await context.setOffline(true);
    await tab.waitForSelector("#note:not([hidden])");
  },
};

/** Pages and pictures that commands write. */
const FILES = {
  chart: "chart.svg",
  "rejection-curve": "curve.svg",
  "heat-map": "heat-map.html",
  report: "report.html",
};

function makeFiles(folder) {
  const at = (name) => join(folder, name);
  const run = (...args) => execFileSync(process.execPath, [main, ...args], { stdio: "ignore", cwd: folder });
  const demo = here("../host/demo/messages.tsv");
  run("data", demo, "--split", "70/15/15", "-o", folder);
  const data = ["train.csv", "--valid", "valid.csv", "--unknown", "0.05"];
  run("train", ...data, "-o", "house.wasm", "--chart", "chart.svg");
  run("train", ...data, "-o", "house.elb");
  run("eval", "house.wasm", "test.csv", "--curve", "--chart", "curve.svg", "--report", "report.html");
  run("explain", "house.wasm", ...EXPLAINED, "--html", "heat-map.html");
  for (const name of ["chart", "curve"])
    writeFileSync(
      at(`${name}.svg.html`),
      `<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark"><body style="margin:0"><img src="${name}.svg" style="display:block;width:100%">`,
    );
}

/** Opens a page in each form, brings it into a state, and takes its picture. */
async function takeAll(
  browser,
  url,
  bring,
  { viewports = [DESK, PHONE], schemes = ["light", "dark"], httpCredentials } = {},
) {
  const shots = [];
  for (const viewport of viewports)
    for (const colorScheme of schemes) {
      // The driver's waiting for functions would be against the page's policy.
      const context = await browser.newContext({ viewport, colorScheme, httpCredentials, bypassCSP: true });
      const tab = await context.newPage();
      await tab.goto(url);
      if (url.startsWith("http")) await tab.waitForSelector("#text:enabled");
      await bring(tab, context);
      await tab.mouse.move(0, 0);
      await tab.evaluate(() => document.activeElement?.blur());
      await tab.waitForTimeout(300);
      const tall = await tab.evaluate(() => document.documentElement.scrollHeight);
      const height = Math.min(tall, TALLEST);
      shots.push({
        ...{ width: viewport.width, height },
        png: await tab.screenshot({ fullPage: true, clip: { x: 0, y: 0, width: viewport.width, height } }),
      });
      await context.close();
    }
  return shots;
}

/** The shots side by side, as WebP. */
async function joined(browser, shots) {
  const tab = await browser.newPage();
  const images = shots.map(({ png, ...size }) => ({ ...size, url: `data:image/png;base64,${png.toString("base64")}` }));
  const url = await tab.evaluate(async (each) => {
    const gap = each.length > 1 ? 24 : 0;
    const scale = each.length > 1 ? 0.75 : 1;
    const canvas = document.createElement("canvas");
    canvas.width = scale * each.reduce((sum, { width }) => sum + width + gap, gap);
    canvas.height = scale * (Math.max(...each.map(({ height }) => height)) + 2 * gap);
    const draw = canvas.getContext("2d");
    draw.fillStyle = "#868e96";
    draw.fillRect(0, 0, canvas.width, canvas.height);
    draw.scale(scale, scale);
    draw.imageSmoothingQuality = "high";
    let left = gap;
    for (const { url, width } of each) {
      const image = new Image();
      image.src = url;
      await image.decode();
      draw.drawImage(image, left, gap);
      left += width + gap;
    }
    return canvas.toDataURL("image/webp", 0.82);
  }, images);
  await tab.close();
  return Buffer.from(url.slice(url.indexOf(",") + 1), "base64");
}

async function servePlayground() {
  const child = spawn(process.execPath, [main, "playground"], { stdio: ["ignore", "pipe", "inherit"] });
  for await (const chunk of child.stdout) {
    const [url] = /http:\S+/.exec(chunk.toString()) ?? [];
    if (url) return { url, stop: () => child.kill() };
  }
  throw new Error("the playground does not start");
}

/** A service with its own broker and some traffic; those who log in may read and ask, and nothing else. */
async function serveConsole(folder, users) {
  const hash =
    users && execFileSync(process.execPath, [main, "serve", "--hash-password"], { input: "a long password\n" });
  const rights = { publish: ["edgelabel/home/nothing"], subscribe: ["edgelabel/home/info", "edgelabel/home/metrics"] };
  const config = {
    commands: true,
    learning: { house: { training: "house.elb", data: ["train.csv"], valid: ["valid.csv"] } },
    ...(users ? { users: { reader: { password: hash.toString().trim(), ...rights } } } : { review: {} }),
  };
  writeFileSync(join(folder, "config.json"), JSON.stringify(config));
  const args = [main, "serve", "house.wasm", "--node", "home", "--port", "0", "--http", "0", "--config", "config.json"];
  const child = spawn(process.execPath, args, { cwd: folder, stdio: ["ignore", "pipe", "ignore"] });
  const said = await new Promise((resolve) => {
    let text = "";
    // It goes on reading, since the service says more later.
    child.stdout.on("data", (chunk) => (text += chunk).includes("Stop with Ctrl-C") && resolve(text));
  });
  const [url] = /http:\/\/\S+/.exec(said);
  let turn = 0;
  const timer = setInterval(() => {
    const text = messages[(turn * 7) % messages.length].split("\t")[1];
    const body = JSON.stringify(turn++ % 25 === 0 ? { text: 7 } : { text });
    void fetch(`${url}/predict`, { method: "POST", body, headers: { "Content-Type": "application/json" } }).catch(
      () => {},
    );
  }, 60);
  return {
    url,
    stop() {
      clearInterval(timer);
      child.kill();
    },
  };
}

const wanted = process.argv.slice(2);
const isWanted = (name) => wanted.length === 0 || wanted.includes(name);
const folder = mkdtempSync(join(tmpdir(), "edgelabel-screens-"));
const browser = await chromium.launch({ executablePath: fetchChromium(), args: ["--no-sandbox", "--disable-gpu"] });
const { url, stop } = await servePlayground();
const write = (name, bytes) => {
  writeFileSync(here(name), bytes);
  process.stdout.write(`docs/${name} ${(bytes.length / 1024).toFixed(0)} KB\n`);
};
try {
  mkdirSync(here("pages"), { recursive: true });
  for (const [name, bring] of Object.entries(PLAYGROUND))
    if (isWanted(name)) write(`pages/${name}.webp`, await joined(browser, await takeAll(browser, url, bring)));
  for (const scheme of ["light", "dark"])
    if (isWanted("playground")) {
      const form = { viewports: [{ width: 1000, height: 600 }], schemes: [scheme] };
      const shots = await takeAll(browser, url, PLAYGROUND["playground-filled"], form);
      write(`playground-${scheme}.webp`, await joined(browser, shots));
    }
  const states = Object.entries(CONSOLE).filter(([name]) => isWanted(name));
  const files = Object.entries(FILES).filter(([name]) => isWanted(name));
  if (files.length + states.length > 0) makeFiles(folder);
  for (const [name, bring] of states) {
    const isReader = name === "console-reader";
    const service = await serveConsole(folder, isReader);
    const httpCredentials = isReader ? { username: "reader", password: "a long password" } : undefined;
    try {
      const shots = await takeAll(browser, service.url, bring, { httpCredentials });
      write(`pages/${name}.webp`, await joined(browser, shots));
    } finally {
      service.stop();
    }
  }
  for (const [name, file] of files) {
    const place = pathToFileURL(join(folder, file.replace(/\.svg$/, ".svg.html"))).href;
    const desk = { width: 860, height: 200 };
    write(
      `pages/${name}.webp`,
      await joined(
        browser,
        await takeAll(browser, place, async () => {}, { viewports: [desk, { ...PHONE, height: 200 }] }),
      ),
    );
  }
} finally {
  stop();
  await browser.close();
  rmSync(folder, { recursive: true });
}
