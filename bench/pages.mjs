// Sizes of the pages, and how long a phone on a slow network takes from the playground's address to its first answer.
//   npm run build && node bench/pages.mjs [ROUNDS]       (5)
// The phone is that of Lighthouse's "mobile" profile: 1.6 Mbit/s, 150 ms to and fro, a quarter of this machine's speed.
// Files are sent with gzip, as web servers do.
import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { chromium } from "playwright-core";
import { fetchChromium } from "../test/tools/fetch-chromium.mjs";

const web = new URL("../build/web/", import.meta.url);
const rounds = Number(process.argv[2] ?? 5);
const TYPES = { html: "text/html", js: "text/javascript", css: "text/css" };
const files = new Map(
  readdirSync(fileURLToPath(web)).map((name) => {
    const body = readFileSync(new URL(name, web));
    return [name, { body, packed: gzipSync(body, { level: 9 }) }];
  }),
);
const consolePage = readFileSync(new URL("../console.html", web));
const asked = new Set();
const server = createServer(({ url }, response) => {
  const name = url === "/" ? "index.html" : url.slice(1);
  const file = files.get(name);
  if (!file) return void response.writeHead(404).end();
  asked.add(name);
  const type = TYPES[name.split(".").at(-1)] ?? "application/octet-stream";
  response.writeHead(200, { "content-type": type, "content-encoding": "gzip" }).end(file.packed);
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

const browser = await chromium.launch({ executablePath: fetchChromium(), args: ["--no-sandbox", "--disable-gpu"] });
const times = [];
for (let round = 0; round < rounds; round++) {
  const context = await browser.newContext({ viewport: { width: 390, height: 844 }, bypassCSP: true });
  const tab = await context.newPage();
  const devtools = await context.newCDPSession(tab);
  await devtools.send("Network.enable");
  const rate = (1.6 * 1024 * 1024) / 8;
  await devtools.send("Network.emulateNetworkConditions", {
    ...{ offline: false, latency: 150, downloadThroughput: rate, uploadThroughput: rate },
  });
  await devtools.send("Emulation.setCPUThrottlingRate", { rate: 4 });
  const started = performance.now();
  await tab.goto(`http://127.0.0.1:${server.address().port}/`);
  await tab.waitForSelector("#text:enabled");
  await tab.click("#ask .chips button");
  await tab.waitForSelector("#ask p.best");
  times.push((performance.now() - started) / 1000);
  await context.close();
}
await browser.close();
server.close();

const kilobytes = (bytes) => (bytes / 1024).toFixed(1);
process.stdout.write("| file | KB | KB gzipped | loaded |\n|---|---|---|---|\n");
for (const [name, { body, packed }] of files)
  process.stdout.write(
    `| ${name} | ${kilobytes(body.length)} | ${kilobytes(packed.length)} | ${asked.has(name) ? "at once" : "to train"} |\n`,
  );
const sum = [...files].filter(([name]) => asked.has(name)).reduce((total, [, { packed }]) => total + packed.length, 0);
times.sort((a, b) => a - b);
process.stdout.write(
  `| console.html, the page of a service | ${kilobytes(consolePage.length)} | ${kilobytes(gzipSync(consolePage, { level: 9 }).length)} | |\n`,
);
process.stdout.write(
  `\n${kilobytes(sum)} KB until the first answer, which takes ${times[Math.floor(times.length / 2)].toFixed(1)} s (${times[0].toFixed(1)} to ${times.at(-1).toFixed(1)} s in ${rounds} rounds)\n`,
);
