// `edgelabel serve` as a process: the built command, a real model file, signals.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { get } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ACTIVATION_SIGMOID, LAYER_DENSE, LAYER_EMBEDDING, LAYER_LSTM } from "../../../assembly/abi.ts";
import { startBroker } from "../../../host/service/broker/broker.ts";
import { packModel } from "../../../host/model/pack.ts";
import { isPassword } from "../../../host/service/users.ts";
import { Trainer } from "../../../host/training/trainer.ts";
import { Certificates } from "../../support/certificates.ts";
import { describeMosquitto, freePort, runClient, startMosquitto } from "../../support/mosquitto.ts";
import { TestClient, topics } from "../../support/fake.ts";
import { main, type Running, startProgram } from "../../support/program.ts";
import { until } from "../../support/wait.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-serve-"));
const elb = join(folder, "constant.elb");
const wasm = join(folder, "constant.wasm");

/** A model whose weights are all zero but one: every text is spam, by sigmoid(2). */
beforeAll(async () => {
  const trainer = await Trainer.create("constant");
  trainer.setTokenizer({
    lower: true,
    charLevel: false,
    splitScripts: false,
    letterPairs: false,
    padPost: false,
    truncatePost: false,
    sequenceLength: 4,
    filters: "",
    split: " ",
    ngramBuckets: 0,
    ngramMin: 0,
    ngramMax: 0,
  });
  trainer.setIdentity("constant", "1.2.3");
  trainer.addWord("win");
  for (const label of ["ham", "spam"]) trainer.addLabel(label);
  trainer.addLayer({ kind: LAYER_EMBEDDING, flags: 0, activation: 0, units: 4, rate: 0 });
  trainer.addLayer({ kind: LAYER_LSTM, flags: 0, activation: 0, units: 4, rate: 0 });
  trainer.addLayer({ kind: LAYER_DENSE, flags: 0, activation: ACTIVATION_SIGMOID, units: 1, rate: 0 });
  trainer.build();
  for (let i = 0; i < trainer.tensorCount(); i++) trainer.setTensor(i, new Float32Array(trainer.tensor(i).length));
  trainer.setTensor(trainer.tensorCount() - 1, Float32Array.of(2));
  const bytes = trainer.write("f32");
  writeFileSync(elb, bytes);
  writeFileSync(wasm, await packModel(bytes));
});

afterAll(() => rmSync(folder, { recursive: true }));

const start = (...args: string[]): Running => startProgram(process.execPath, [main, "serve", ...args]);

/** Until it serves; nothing that it says is an error. */
async function ready(serving: Running): Promise<string> {
  await until(() => serving.stdout().includes("Stop with Ctrl-C") || serving.child.exitCode !== null);
  expect(serving.stderr()).toBe("");
  return serving.stdout();
}

describe("embedded broker", () => {
  test.each(["SIGTERM", "SIGINT"] as const)(
    "says where it listens, answers on MQTT and HTTP, stops on %s",
    async (signal) => {
      const serving = start(wasm, `again=${elb}`, "--port", "0", "--http", "0", "--node", "gate-1");
      const banner = await ready(serving);
      const url = /mqtt:\/\/127\.0\.0\.1:\d+/.exec(banner)![0];
      const http = /http:\/\/127\.0\.0\.1:\d+/.exec(banner)![0];
      expect(banner).toContain("edgelabel/gate-1/classify/constant");
      expect(banner).toContain("edgelabel/gate-1/classify/again");
      expect(banner).toContain(`main.js ask 'a text' --broker ${url} --node gate-1`);

      const client = await TestClient.connect(url, 4);
      await client.subscribe("edgelabel/gate-1/#");
      await client.publish(topics.classify, JSON.stringify({ text: "win", id: 1 }));
      expect((await client.next(({ topic }) => topic === topics.label)).json).toEqual({
        id: 1,
        label: "spam",
        score: 0.880797,
        model: "constant",
        version: "1.2.3",
      });
      const response = await fetch(`${http}/predict`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: '{"data":"win","model":"again"}',
      });
      expect(await response.json()).toEqual({ label: "spam" });

      // As with Ctrl-C under npx, which passes on what the terminal has sent already. On a busy
      // machine the second one may meet node itself at its end, which takes none any more.
      serving.child.kill(signal);
      const { code, ms } = await serving.end(signal);
      expect(code ?? serving.child.signalCode).toBe(code === null ? signal : 0);
      expect(ms).toBeLessThan(10_000);
      expect(
        (
          await client.next(
            ({ topic, packet, text }) => topic === topics.status && !packet.retain && text === "offline",
          )
        ).text,
      ).toBe("offline");
      await client.close();
    },
  );

  test("with TLS on HTTP, what to try works as it is printed, given the files", async () => {
    const certificates = new Certificates(folder);
    certificates.authority("CA");
    for (const name of ["server", "CLIENT"]) certificates.certificate(name, "CA", "localhost");
    const config = join(folder, "tls.json");
    writeFileSync(
      config,
      JSON.stringify({ serverTls: { cert: "server.pem", key: "server.key", ca: "CA.pem" }, host: "localhost" }),
    );
    const banner = await ready(start(wasm, "--config", config, "--port", "0", "--http", "0", "--node", "gate-1"));
    const [, ask = ""] = /main\.js (ask .*)/.exec(banner)!;
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [main, ...ask.replace("'a text'", "win").split(" ")],
      { cwd: folder },
    );
    expect(stdout).toBe("spam\t0.880797\n");
    const [, http = ""] = /curl -s --cacert CA\.pem --cert CLIENT\.pem --key CLIENT\.key (https:.*)\/predict/.exec(
      banner,
    )!;
    const [ca, cert, key] = ["CA.pem", "CLIENT.pem", "CLIENT.key"].map((name) => readFileSync(join(folder, name)));
    const [response] = (await once(get(http, { ca, cert, key, agent: false }), "response")) as [IncomingMessage];
    expect((await response.toArray()).join("")).toContain("<title>edgelabel");
  });

  test("--json logs one JSON object a line", async () => {
    const serving = start(wasm, "--port", "0", "--json", "--node", "n");
    await until(() => serving.stdout().includes('"classify"'));
    expect((await serving.end("SIGTERM")).code).toBe(0);
    const records = serving
      .stdout()
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(records.find(({ classify }) => classify)).toMatchObject({
      level: 30,
      msg: "serving",
      name: "edgelabel",
      node: "n",
      embedded: true,
      models: ["constant"],
      classify: "edgelabel/n/classify",
    });
    expect(records.filter(({ msg }) => /\n|Ctrl-C/.test(String(msg)))).toEqual([]);
    expect(serving.stderr()).toBe("");
  });

  test("a taken port: exit 1, and which option to use", async () => {
    const other = await startBroker({ port: 0 });
    const serving = start(wasm, "--port", String(other.port));
    expect(await serving.ended).toBe(1);
    expect(serving.stderr()).toBe(
      `edgelabel: port ${other.port} on 127.0.0.1 is already taken: use that broker with --broker ${other.url}, or choose another port with --port NUMBER (0 takes any free one)\n`,
    );
    await other.close();
  });
});

test.each([
  [[], 1, "no model given"],
  [["/nonexistent.wasm"], 1, "/nonexistent.wasm"],
  [[main], 1, "it is not an edgelabel model"],
  [[wasm, wasm], 1, "two models are called constant"],
  [[wasm, "--broker", "http://h"], 1, "the schemes are mqtt, mqtts, ws and wss"],
  [[wasm, "--http", "70000"], 2, "a port is a number from 0 to 65535"],
  [[wasm, "--nope"], 2, "--nope"],
] as [string[], number, string][])("serve %j: exit %i", async (args, code, message) => {
  const serving = start(...args);
  expect(await serving.ended).toBe(code);
  expect(serving.stderr()).toContain(message);
  expect(serving.stdout()).toBe("");
});

test("--hash-password makes what the configuration file takes, and --check opens no port", async () => {
  const hashing = spawn(process.execPath, [main, "serve", "--hash-password"], { stdio: ["pipe", "pipe", "inherit"] });
  hashing.stdin.end("geheimnis\n");
  const [line] = (await once(hashing.stdout, "data")) as [Buffer];
  expect(await isPassword("geheimnis", line.toString().trim())).toBe(true);
  const config = join(folder, "edgelabel.json");
  const other = await startBroker({ port: 0 });
  writeFileSync(
    config,
    JSON.stringify({
      models: ["constant.wasm"],
      node: "n",
      port: other.port,
      http: other.port,
      users: { a: { password: line.toString().trim(), publish: ["#"] } },
    }),
  );
  const checking = start("--config", config, "--check");
  expect(await checking.ended).toBe(0);
  expect(checking.stdout()).toBe(
    `the configuration is valid: models constant; embedded broker; requests on edgelabel/n/classify; HTTP on port ${other.port}\n`,
  );
  await other.close();
  writeFileSync(
    config,
    JSON.stringify({
      models: ["constant.wasm"],
      node: "n",
      routes: [{ name: "r", filter: "in", outputs: [{ topic: "out", when: ["ham", "Spam"] }] }],
    }),
  );
  const doubting = start("--config", config, "--check");
  expect(await doubting.ended).toBe(0);
  expect(doubting.stderr()).toBe(
    'warning: route "r" waits for the label "Spam", which its model does not know; it knows ham, spam\n',
  );
  writeFileSync(
    config,
    JSON.stringify({
      models: ["constant.wasm"],
      node: "n",
      broker: "mqtt://127.0.0.1",
      host: "0.0.0.0",
      http: other.port,
    }),
  );
  const open = start("--config", config, "--check");
  expect(await open.ended).toBe(0);
  expect(open.stderr()).toBe(
    'warning: HTTP on 0.0.0.0 can be used by everyone who reaches this address: give "users" in the configuration file\n',
  );
  writeFileSync(config, JSON.stringify({ models: ["missing.wasm"], node: "n" }));
  const failing = start("--config", config, "--check");
  expect(await failing.ended).toBe(1);
  expect(failing.stderr()).toContain("missing.wasm: no such file");
});

test("without a broker it keeps trying, finds it when it comes, and stops at once when told", async () => {
  const port = await freePort();
  const url = `mqtt://127.0.0.1:${port}`;
  const serving = start(wasm, "--broker", url, "--node", "gate-1");
  await until(() =>
    serving
      .stderr()
      .includes(`cannot reach ${url}: connection refused: no broker listens there; trying again until it works`),
  );
  const broker = await startBroker({ port });
  await until(() => serving.stdout().includes("Stop with Ctrl-C"));
  await broker.close();
  await until(() => serving.stderr().includes(`lost ${url}`));
  const { code, ms } = await serving.end("SIGTERM");
  expect(code).toBe(0);
  expect(ms).toBeLessThan(10_000);
});

describeMosquitto("Mosquitto", (binaries) => {
  test("mosquitto_rr and a 3.1.1 client get labels; SIGKILL leaves the will, SIGTERM says offline", async () => {
    const broker = await startMosquitto(binaries);
    const watcher = await TestClient.connect(broker.url, 4);
    await watcher.subscribe(topics.status);
    const args = [wasm, "--broker", broker.url, "--node", "gate-1"];
    const killed = start(...args);
    await ready(killed);
    expect((await watcher.next()).text).toBe("online");
    const answer = await runClient(binaries, "rr", [
      "-V",
      "5",
      "-h",
      "127.0.0.1",
      "-p",
      String(broker.port),
      "-t",
      topics.classify,
      "-e",
      "answers/rr",
      "-m",
      "win",
      "-W",
      "30",
    ]);
    expect(JSON.parse(answer)).toEqual({ label: "spam", score: 0.880797, model: "constant", version: "1.2.3" });
    await watcher.subscribe("old/answers");
    await watcher.publish(topics.classify, '{"text":"win","replyTo":"old/answers"}');
    expect((await watcher.next()).json.label).toBe("spam");
    await killed.end("SIGKILL");
    expect((await watcher.next()).text).toBe("offline");
    const stopped = start(...args);
    await ready(stopped);
    expect((await watcher.next()).text).toBe("online");
    const { code, ms } = await stopped.end("SIGTERM");
    expect(code).toBe(0);
    expect(ms).toBeLessThan(10_000);
    expect((await watcher.next()).text).toBe("offline");
    await watcher.close();
    await broker.kill();
  });

  test.each([4, 5] as const)("MQTT %s: three SIGKILLs in 600 QoS 1 requests lose none", async (protocol) => {
    const broker = await startMosquitto(binaries);
    const client = await TestClient.connect(broker.url, protocol);
    await client.subscribe("answers");
    const args = [wasm, "--broker", broker.url, "--node", "gate-1", "--protocol", String(protocol)];
    let serving = start(...args);
    await ready(serving);
    const answers = new Map<number, string>();
    client.client.on("message", (_topic, payload) => {
      const { id, ...answer } = JSON.parse(payload.toString()) as { id: number };
      const text = JSON.stringify(answer);
      expect(answers.get(id) ?? text).toBe(text);
      answers.set(id, text);
    });
    for (let id = 0; id < 600; id++) {
      const sent = client.publish(topics.classify, JSON.stringify({ text: "win", id, replyTo: "answers" }));
      if (id % 10 === 0) await sent;
      if (id % 150 === 149 && id < 599) {
        void serving.end("SIGKILL");
        serving = start(...args);
      }
    }
    await until(() => answers.size === 600);
    expect((await serving.end("SIGTERM")).code).toBe(0);
    await client.close();
    await broker.kill();
  });
});
