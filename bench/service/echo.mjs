// Throughput of `serve` against a handler that only echoes, and one that echoes and classifies,
// on the same Mosquitto and machine, in alternating runs: QoS 0 and 1, window 1 and 64.
//   node bench/service/echo.mjs MODEL.wasm [SECONDS [ROUNDS]]      (needs npm run build, Mosquitto)
// EDGELABEL_PROFILE=FOLDER leaves a CPU profile of each there.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import mqtt from "mqtt";
import { fetchMosquitto } from "../../test/tools/fetch-mosquitto.mjs";

const [model, seconds = "3", rounds = "5"] = process.argv.slice(2);
const PORT = 18_000 + (process.pid % 10_000);
const url = `mqtt://127.0.0.1:${PORT}`;
const TEXT = "please turn on the light in the kitchen at seven";
const REPLY = "edgelabel/bench/reply/b";
let lastId = 0;
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
const main = fileURLToPath(new URL("../../build/host/main.js", import.meta.url));
const profiling = process.env["EDGELABEL_PROFILE"]
  ? ["--cpu-prof", "--cpu-prof-dir", process.env["EDGELABEL_PROFILE"]]
  : [];

if (process.argv[2] === "--echo") await echo(...process.argv.slice(3));
else if (!model || !existsSync(model)) {
  process.stderr.write("usage: node bench/service/echo.mjs MODEL.wasm [SECONDS [ROUNDS]]\n");
  process.exitCode = 2;
} else await compare();

/**
 * A handler as one would write it with MQTT.js: parses the request, publishes an answer of the same size as the
 * service's to the response topic, with the correlation data, and then acknowledges the request. With a model,
 * it also classifies the text; what it lacks then is the rest of a service.
 */
async function echo(broker, topic, answer, path) {
  const fields = JSON.parse(answer);
  const classifier = path && (await (await import("../../build/host/model/file.js")).openModel(path));
  const client = await mqtt.connectAsync(broker, { protocolVersion: 5 });
  client.stream.setNoDelay(true);
  client.handleMessage = ({ payload, qos, properties: { responseTopic, correlationData } }, done) => {
    const { id, text } = JSON.parse(payload.toString());
    const { label, score } = classifier ? classifier.classify(text) : fields;
    client.publish(responseTopic, JSON.stringify({ id, ...fields, label, score }), {
      qos,
      properties: { contentType: "application/json", correlationData },
    });
    done();
  };
  await client.subscribeAsync(topic, { qos: 1 });
  process.once("SIGTERM", () => process.exit());
  process.stdout.write("ready\n");
}

async function compare() {
  const folder = mkdtempSync(join(tmpdir(), "edgelabel-echo-"));
  const children = [];
  const start = async (args, pattern) => {
    const child = spawn(process.execPath, [...profiling, ...args], { stdio: ["ignore", "pipe", "ignore"] });
    children.unshift(child);
    await until(child.stdout, pattern);
    return child;
  };
  try {
    children.push(await startMosquitto(folder));
    const serving = await start([main, "serve", model, "--broker", url, "--node", "bench"], /Stop with Ctrl-C/);
    const client = await mqtt.connectAsync(url, { protocolVersion: 5 });
    client.stream.setNoDelay(true);
    await client.subscribeAsync(REPLY, { qos: 1 });
    const { id: _id, ...answer } = JSON.parse(await ask(client, "edgelabel/bench/classify"));
    const self = fileURLToPath(import.meta.url);
    const contenders = {
      echo: await start([self, "--echo", url, "echo", JSON.stringify(answer)], /ready/),
      model: await start([self, "--echo", url, "model", JSON.stringify(answer), model], /ready/),
      "edgelabel/bench/classify": serving,
    };
    process.stdout
      .write(`load average ${load1()}; requests/s and CPU µs a request of the handler's process; medians of ${rounds} alternating runs of ${seconds} s\n
| QoS | window | echo | echo and model | serve | serve / echo | serve / echo and model | ratios to echo, run by run |
|--:|--:|--:|--:|--:|--:|--:|---|
`);
    // Warms all contenders up, so that their code is compiled as in a service that has run for a while.
    for (const [topic, { pid }] of Object.entries(contenders)) await load(client, topic, { qos: 1, window: 64, pid });
    for (const qos of [0, 1]) {
      for (const window of [1, 64]) {
        const runs = Object.values(contenders).map(() => []);
        for (let round = 0; round < Number(rounds); round++) {
          for (const [i, [topic, { pid }]] of Object.entries(contenders).entries())
            runs[i].push(await load(client, topic, { qos, window, pid }));
        }
        const [echo, model, serve] = runs.map((each) => median(each.map(({ rate }) => rate)));
        const cells = runs.map(
          (each) =>
            `${median(each.map(({ rate }) => rate)).toFixed(0)} · ${median(each.map(({ cpu }) => cpu)).toFixed(0)} µs`,
        );
        const pairs = runs[2].map(({ rate }, i) => (rate / runs[0][i].rate).toFixed(2)).join(" ");
        process.stdout.write(
          `| ${qos} | ${window} | ${cells.join(" | ")} | **${(serve / echo).toFixed(2)}** | **${(serve / model).toFixed(2)}** | ${pairs} |\n`,
        );
      }
    }
    process.stdout.write(`\nload average ${load1()} at the end\n`);
    await client.endAsync(true);
  } finally {
    // The broker is stopped last, so that no client loses its connection.
    for (const child of children) {
      child.kill("SIGTERM");
      if (child.exitCode === null) await once(child, "exit");
    }
    rmSync(folder, { recursive: true });
  }
}

async function startMosquitto(folder) {
  const root = fetchMosquitto();
  const libraries = ["usr/lib", "lib"].map((name) => join(root, name)).filter(existsSync);
  const paths = libraries.flatMap((lib) => [
    lib,
    ...readdirSync(lib, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => join(lib, entry.name)),
  ]);
  writeFileSync(
    join(folder, "mosquitto.conf"),
    `listener ${PORT} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nmax_inflight_messages 0\nmax_queued_messages 0\n${process.getuid?.() === 0 ? "user root\n" : ""}`,
  );
  const child = spawn(join(root, "usr/sbin/mosquitto"), ["-c", join(folder, "mosquitto.conf")], {
    env: { ...process.env, LD_LIBRARY_PATH: paths.join(":") },
    stdio: ["ignore", "ignore", "pipe"],
  });
  await until(child.stderr, / running/);
  return child;
}

function load1() {
  return readFileSync("/proc/loadavg", "utf8").split(" ")[0];
}

async function until(stream, pattern) {
  let seen = "";
  for await (const chunk of stream.iterator({ destroyOnReturn: false })) {
    seen += chunk;
    if (pattern.test(seen)) break;
  }
  stream.resume();
}

/** As `edgelabel ask` does: JSON with an id, response topic, correlation data. Ids are new, so nothing is answered from memory. */
function send(client, topic, qos) {
  const id = `request-${++lastId}`;
  client.publish(topic, JSON.stringify({ text: TEXT, id }), {
    qos,
    properties: { responseTopic: REPLY, correlationData: Buffer.from(String(lastId)) },
  });
}

function ask(client, topic) {
  return new Promise((resolve) => {
    client.once("message", (_topic, payload) => resolve(payload.toString()));
    send(client, topic, 1);
  });
}

/** User and system time of a process in µs (the unit of /proc is 1/100 s). */
function cpuTime(pid) {
  const [utime, stime] = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/.*\) /, "").split(" ").slice(11);
  return 10_000 * (Number(utime) + Number(stime));
}

/** Answers a second with `window` requests on their way, and what they cost the process `pid`. */
async function load(client, topic, { qos, window, pid }) {
  const before = cpuTime(pid);
  const start = performance.now();
  const end = start + 1000 * Number(seconds);
  let answers = 0;
  let pending = window;
  await new Promise((resolve) => {
    const onMessage = () => {
      answers++;
      if (performance.now() < end) send(client, topic, qos);
      else if (--pending === 0) {
        client.off("message", onMessage);
        resolve();
      }
    };
    client.on("message", onMessage);
    for (let i = 0; i < window; i++) send(client, topic, qos);
  });
  return { rate: (1000 * answers) / (performance.now() - start), cpu: (cpuTime(pid) - before) / answers };
}
