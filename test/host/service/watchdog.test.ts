// systemd's watchdog, with a receiver in systemd's place: it is told when the service is up and
// that it lives, and hears nothing while the event loop stands still. And the end: whatever texts
// are at work, SIGTERM ends the service in the time that the unit gives it.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ACTIVATION_SOFTMAX } from "../../../assembly/abi.ts";
import { packModel } from "../../../host/model/pack.ts";
import { dense, embedding, lstm, makeModel, smallestModel } from "../../support/models.ts";
import { main, serve, startProgram } from "../../support/program.ts";
import { TestClient, topics } from "../../support/fake.ts";
import { until } from "../../support/wait.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-watchdog-"));
const at = (name: string): string => join(folder, name);
const unit = readFileSync(new URL("../../../deploy/edgelabel.service", import.meta.url), "utf8");

beforeAll(async () => writeFileSync(at("m.wasm"), await packModel(await smallestModel())));
afterAll(() => rmSync(folder, { recursive: true }));

/** Prints each datagram on a line, behind the seconds since 1970. */
const RECEIVER = `
import os, socket, sys, time
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind(sys.argv[1])
print("bound", flush=True)
while True:
    data, fds, flags, address = socket.recv_fds(receiver, 4096, 4)
    for fd in fds: os.close(fd)
    print(time.time(), data.decode().strip(), flush=True)
`;

const missing = ["python3", "systemd-notify"].filter((program) => spawnSync(program, ["--version"]).status !== 0);
if (missing.length > 0 && process.env["CI"] === "true")
  test("watchdog", () => {
    throw new Error(`${missing.join(" and ")} cannot be had, and CI=true demands it`);
  });

describe.skipIf(missing.length > 0)(`watchdog${missing.length > 0 ? ` (needs ${missing.join(" and ")})` : ""}`, () => {
  test("hears that the service is up and lives, and nothing while it stands still", async () => {
    const receiver = startProgram("python3", ["-c", RECEIVER, at("notify")]);
    await until(() => receiver.output().includes("bound"));
    const standStill = `data:text/javascript,${encodeURIComponent("process.on('SIGUSR2', () => { const end = Date.now() + 3000; while (Date.now() < end); console.log('stood still'); });")}`;
    const service = startProgram(
      process.execPath,
      ["--import", standStill, main, "serve", at("m.wasm"), "--port", "0"],
      { env: { ...process.env, NOTIFY_SOCKET: at("notify"), WATCHDOG_USEC: "900000" } },
    );
    const signs = (): number[] =>
      [...receiver.output().matchAll(/^([\d.]+) WATCHDOG=1$/gm)].map(([, time]) => Number(time));
    await until(() => signs().length >= 3);
    expect(receiver.output().match(/ READY=1$/gm)).toHaveLength(1);
    service.child.kill("SIGUSR2");
    await until(() => service.output().includes("stood still"));
    const before = signs().length;
    await until(() => signs().length >= before + 2);
    const gaps = signs()
      .slice(1)
      .map((time, i) => time - signs()[i]!);
    expect(Math.max(...gaps)).toBeGreaterThan(2.5);
    expect((await service.end()).code).toBe(0);
    expect(service.output()).not.toContain("no watchdog signal");
  });

  test("the service says once that it cannot be heard, and goes on", async () => {
    const service = await serve([at("m.wasm"), "--port", "0"], {
      env: { ...process.env, NOTIFY_SOCKET: at("nobody"), WATCHDOG_USEC: "300000" },
    });
    await until(() => service.output().includes("no watchdog signal"));
    expect(service.output().match(/no watchdog signal/g)).toHaveLength(1);
  });
});

test("the unit waits for the signs, and for longer than a text can take", () => {
  expect(unit).toMatch(/^Type=notify$/m);
  // systemd-notify is no main process.
  expect(unit).toMatch(/^NotifyAccess=all$/m);
  expect(Number(/^WatchdogSec=(\d+)$/m.exec(unit)?.[1])).toBeGreaterThanOrEqual(30);
});

test("SIGTERM ends the service in the unit's time, while texts of the slowest model wait", async () => {
  const { write } = await makeModel(
    {
      words: ["hi"],
      labels: ["no", "yes"],
      layers: [embedding(64), lstm(960), dense(2, ACTIVATION_SOFTMAX)],
      tokenizer: { sequenceLength: 2320 },
    },
    (_, length) => new Float32Array(length),
  );
  writeFileSync(at("slowest.elb"), write("int8"));
  const service = await serve([`m=${at("slowest.elb")}`, "--port", "0", "--node", topics.node]);
  const client = await TestClient.connect(service.url, 4);
  const text = "hi ".repeat(2320);
  await client.subscribe(topics.label);
  for (let i = 0; i < 50; i++) await client.publish(topics.classify, text, { qos: 0 });
  await until(() => client.received.length > 0, 120_000);
  const since = performance.now();
  await until(() => client.received.length > 2, 120_000);
  const twoTexts = (performance.now() - since) / 1000;
  const { code, ms } = await service.end();
  expect(code).toBe(0);
  expect(client.received.length).toBeLessThan(50);
  await client.close();
  // Two texts took that time, and the machine may be busy with other things.
  expect(ms / 1000).toBeLessThan(Number(/^TimeoutStopSec=(\d+)$/m.exec(unit)![1]) + twoTexts);
}, 300_000);
