// Throughput of `serve` against a handler that only echoes, on the same Mosquitto and
// machine, in alternating runs: QoS 0 and 1, window 1 and 64.
//   node bench/service/echo.mjs MODEL.wasm [SECONDS]      (needs npm run build, Mosquitto)
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import mqtt from "mqtt";
import { fetchMosquitto } from "../../test/tools/fetch-mosquitto.mjs";

const [model, seconds = "3"] = process.argv.slice(2);
const PORT = 18_000 + (process.pid % 10_000);
const url = `mqtt://127.0.0.1:${PORT}`;
const ROUNDS = 3;
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
const main = fileURLToPath(new URL("../../build/host/main.js", import.meta.url));

if (process.argv[2] === "--echo") await echo(process.argv[3]);
else if (!model || !existsSync(model)) {
  process.stderr.write("usage: node bench/service/echo.mjs MODEL.wasm [SECONDS]\n");
  process.exitCode = 2;
} else await compare();

/** The opponent: one subscription, and each payload goes back as it came. */
async function echo(broker) {
  const client = await mqtt.connectAsync(broker, { protocolVersion: 5 });
  client.stream.setNoDelay(true);
  client.handleMessage = (packet, done) => {
    client.publish(packet.properties.responseTopic, packet.payload, { qos: packet.qos, properties: { correlationData: packet.properties.correlationData } });
    done();
  };
  await client.subscribeAsync("echo", { qos: 1 });
  process.stdout.write("ready\n");
}

async function compare() {
  const folder = mkdtempSync(join(tmpdir(), "edgelabel-echo-"));
  const children = [];
  try {
    const root = fetchMosquitto();
    const libraries = ["usr/lib", "lib"].map((name) => join(root, name)).filter(existsSync);
    const paths = libraries.flatMap((lib) => [lib, ...readdirSync(lib, { withFileTypes: true }).filter((entry) => entry.isDirectory()).map((entry) => join(lib, entry.name))]);
    writeFileSync(join(folder, "mosquitto.conf"), `listener ${PORT} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nmax_inflight_messages 0\nmax_queued_messages 0\n${process.getuid?.() === 0 ? "user root\n" : ""}`);
    children.push(spawn(join(root, "usr/sbin/mosquitto"), ["-c", join(folder, "mosquitto.conf")], { env: { ...process.env, LD_LIBRARY_PATH: paths.join(":") }, stdio: ["ignore", "ignore", "pipe"] }));
    await until(children[0].stderr, / running/);
    const serving = spawn(process.execPath, [main, "serve", model, "--broker", url, "--node", "bench"], { stdio: ["ignore", "pipe", "inherit"] });
    const echoing = spawn(process.execPath, [fileURLToPath(import.meta.url), "--echo", url], { stdio: ["ignore", "pipe", "inherit"] });
    children.push(serving, echoing);
    await Promise.all([until(serving.stdout, /Stop with Ctrl-C/), until(echoing.stdout, /ready/)]);
    const client = await mqtt.connectAsync(url, { protocolVersion: 5 });
    client.stream.setNoDelay(true);
    await client.subscribeAsync("edgelabel/bench/reply/b", { qos: 1 });
    process.stdout.write("qos window echo/s serve/s ratio\n");
    for (const qos of [0, 1]) {
      for (const window of [1, 64]) {
        const rates = { echo: [], serve: [] };
        for (let round = 0; round < ROUNDS; round++) {
          for (const [name, topic] of [["echo", "echo"], ["serve", "edgelabel/bench/classify"]]) rates[name].push(await load(client, topic, { qos, window }));
        }
        const [echoed, served] = [median(rates.echo), median(rates.serve)];
        process.stdout.write(`${qos}   ${String(window).padEnd(6)} ${echoed.toFixed(0).padStart(6)} ${served.toFixed(0).padStart(7)} ${(served / echoed).toFixed(3)}\n`);
      }
    }
    await client.endAsync(true);
  } finally {
    for (const child of children) child.kill("SIGTERM");
    await Promise.all(children.map((child) => child.exitCode === null && once(child, "exit")));
    rmSync(folder, { recursive: true });
  }
}

async function until(stream, pattern) {
  let seen = "";
  for await (const chunk of stream.iterator({ destroyOnReturn: false })) {
    seen += chunk;
    if (pattern.test(seen)) break;
  }
  stream.resume();
}

/** Answers a second with `window` requests on their way. */
async function load(client, topic, { qos, window }) {
  const properties = { responseTopic: "edgelabel/bench/reply/b" };
  const end = performance.now() + 1000 * Number(seconds);
  const start = performance.now();
  let answers = 0;
  let pending = 0;
  await new Promise((resolve) => {
    const send = () => {
      pending++;
      client.publish(topic, "please turn on the light in the kitchen at seven", { qos, properties });
    };
    const onMessage = () => {
      answers++;
      pending--;
      if (performance.now() < end) send();
      else if (pending === 0) {
        client.off("message", onMessage);
        resolve();
      }
    };
    client.on("message", onMessage);
    for (let i = 0; i < window; i++) send();
  });
  return (1000 * answers) / (performance.now() - start);
}
