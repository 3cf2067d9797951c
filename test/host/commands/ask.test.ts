// `edgelabel ask` against a service, on every broker and protocol.
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { Readable } from "node:stream";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { askCommand } from "../../../host/commands/ask.ts";
import { startBroker } from "../../../host/service/broker/broker.ts";
import type { Service } from "../../../host/service/service.ts";
import { topicsOf } from "../../../host/service/topics.ts";
import { describeMosquitto, freePort, startMosquitto } from "../../support/mosquitto.ts";
import { fakeService, fakeSeveral, TestClient, topics } from "../../support/fake.ts";

async function ask(...args: string[]): Promise<string> {
  let output = "";
  const write = vi.spyOn(process.stdout, "write").mockImplementation((chunk) => {
    output += String(chunk);
    return true;
  });
  try {
    await askCommand().exitOverride().parseAsync(args, { from: "user" });
    return output;
  } finally {
    write.mockRestore();
  }
}

interface Broker {
  url: string;
  stop(): Promise<void>;
}

function askTests(start: () => Promise<Broker>, ...protocol: string[]): void {
  let broker: Broker;
  let service: Service;
  let common: string[];

  beforeEach(async () => {
    broker = await start();
    service = fakeService({ access: { url: broker.url } });
    await service.start();
    common = ["--broker", broker.url, "--node", "gate-1", ...protocol];
  });

  afterEach(async () => {
    await service.stop();
    await broker.stop();
  });

  test("one line a text, in their order", async () => {
    expect(await ask("win", "hi", ...common)).toBe("spam\t0.875000\nham\t0.875000\n");
    const texts = Array.from({ length: 100 }, (_, i) => (i % 3 === 0 ? "win" : "hi"));
    expect(await ask(...texts, ...common)).toBe(
      texts.map((text) => (text === "win" ? "spam\t0.875000\n" : "ham\t0.875000\n")).join(""),
    );
  });

  test("all labels of a text that has several", async () => {
    service.setModel("several", fakeSeveral());
    expect(await ask("win now", "hi", "--model", "several", ...common)).toBe(
      "spam\t0.875000\turgent\t0.750000\n?\t0.125000\n",
    );
  });

  test("one line a line of standard input, empty ones too", async () => {
    const stdin = vi
      .spyOn(process, "stdin", "get")
      .mockReturnValue(Readable.from([Buffer.from("win\r\n\nhi\n\nwin")]) as typeof process.stdin);
    expect((await ask(...common)).split("\n").map((line) => line.split("\t")[0])).toEqual([
      "spam",
      "ham",
      "ham",
      "ham",
      "spam",
      "",
    ]);
    stdin.mockRestore();
  });

  test("--json prints the answer, --model asks that model", async () => {
    expect(JSON.parse(await ask("win", "--json", "--model", "other", ...common))).toEqual({
      id: "0",
      label: "spam",
      score: 0.875,
      model: "other",
      version: "2.0.0",
    });
  });

  test("an error answer is an error", async () => {
    await expect(ask("win", "--model", "nope", ...common)).rejects.toThrow(
      "the service answers unknown_model: there is no such model here; the models are spam, other",
    );
    await expect(ask("boom", ...common)).rejects.toThrow("the service answers internal");
  });

  test("nobody there: the error says so, and where it looked", async () => {
    const start = Date.now();
    await expect(ask("win", ...common, "--node", "gate-9", "--timeout", "0.5")).rejects.toThrow(
      /edgelabel\/gate-9\/classify.*no service has reported on edgelabel\/gate-9\/status.*; online: "gate-1"$/,
    );
    // Without an option it would be ten seconds.
    expect(Date.now() - start).toBeLessThan(10_000);
    await expect(ask("win", ...common, "--root", "other/root", "--timeout", "0.5")).rejects.toThrow(
      "; no node is seen online below other/root/",
    );
  });

  test("a service that is gone: the error says that it is offline", async () => {
    await service.stop();
    await expect(ask("win", ...common, "--timeout", "0.5")).rejects.toThrow(
      "no answer on edgelabel/gate-1/classify within 0.5 s: the service is offline",
    );
    const others = await Promise.all(
      ["north", "south"].map(async (node) => {
        const other = fakeService({ access: { url: broker.url }, topics: topicsOf("edgelabel", node), clientId: node });
        await other.start();
        return other;
      }),
    );
    await expect(ask("win", ...common, "--timeout", "0.5")).rejects.toThrow(
      'the service is offline (edgelabel/gate-1/status); online: "north", "south"',
    );
    for (const other of others) await other.stop();
  });

  test("answers of others and nonsense on the reply topic do not count", async () => {
    await service.stop();
    const impostor = await TestClient.connect(broker.url, 4);
    await impostor.subscribe(topics.classify);
    const answer = ask("win", ...common, "--protocol", "4", "--timeout", "60");
    const { json } = await impostor.next();
    for (const message of [
      '{"id":"7","label":"x","score":1}',
      '{"label":"x","score":1}',
      '{"id":"0"}',
      "null",
      '{"id":"0","label":"\\u001b[31mx","score":0.5}',
    ])
      await impostor.publish(json.replyTo, message);
    expect(await answer).toBe("\ufffd[31mx\t0.500000\n");
    await impostor.close();
  });

  test("the broker dies: the error says so", async () => {
    await service.stop();
    const watcher = await TestClient.connect(broker.url, 4);
    await watcher.subscribe(topics.classify);
    const answer = expect(ask("win", ...common)).rejects.toThrow(`${broker.url} closed the connection`);
    await watcher.next();
    await watcher.close();
    await broker.stop();
    await answer;
  });
}

describe("embedded broker", () => {
  const start = async () => {
    const broker = await startBroker({ port: 0 });
    return { url: broker.url, stop: () => broker.close() };
  };
  describe("MQTT 5", () => askTests(start));
  describe("MQTT 3.1.1", () => askTests(start, "--protocol", "4"));
});

describeMosquitto("Mosquitto", (binaries) => {
  const start = async () => {
    const broker = await startMosquitto(binaries);
    return { url: broker.url, stop: () => broker.kill() };
  };
  describe("MQTT 5", () => askTests(start));
  describe("MQTT 3.1.1", () => askTests(start, "--protocol", "4"));
});

test("a refused connection is explained in words", async () => {
  const port = await freePort();
  await expect(ask("hi", "--broker", `mqtt://127.0.0.1:${port}`)).rejects.toThrow(
    `cannot reach mqtt://127.0.0.1:${port}: connection refused: no broker listens there`,
  );
  await expect(ask("hi", "--broker", "mqtt://u:geheim@h")).rejects.toThrow("EDGELABEL_MQTT_PASSWORD");
  await expect(ask("hi", "--model", "a/b")).rejects.toThrow('the model name "a/b"');
});

test.each([
  ["mqtt", "what answers there is no MQTT broker"],
  ["mqtts", "no TLS is spoken there: mqtt:// and ws:// go without"],
])("%s:// to an HTTP server is told in words", async (scheme, words) => {
  const server = createServer((socket) => socket.on("error", () => {}).end("HTTP/1.1 400 Bad Request\r\n\r\n")).listen(
    0,
    "127.0.0.1",
  );
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  await expect(ask("hi", "--broker", `${scheme}://127.0.0.1:${port}`)).rejects.toThrow(
    `cannot reach ${scheme}://127.0.0.1:${port}: ${words}`,
  );
  server.close();
});

test("misuse is commander's to tell", async () => {
  const silence = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  for (const args of [
    ["hi", "--timeout", "0"],
    ["hi", "--protocol", "3"],
    ["hi", "--nope"],
  ])
    await expect(ask(...args)).rejects.toMatchObject({ exitCode: 1 });
  silence.mockRestore();
});
