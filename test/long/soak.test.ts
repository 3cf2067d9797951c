// Everything at once for a quarter of an hour: requests at QoS 0, 1 and 2 over MQTT, routes,
// HTTP, models that learn and go back, connections that are lost, and one message in five that
// is malformed. Whoever may expect an answer gets one, and memory and descriptors stay what they were.
// EDGELABEL_SOAK_SECONDS sets another duration.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createConnection, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, onTestFinished, test } from "vitest";
import { TestClient, topics } from "../support/fake.ts";
import { pause, until } from "../support/wait.ts";
import { Seeded } from "../support/models.ts";
import { describeMosquitto, startMosquitto } from "../support/mosquitto.ts";
import { json, LAMPS, serve, SMALL } from "../support/program.ts";
import { size } from "./size.ts";

const SECONDS = Number(process.env["EDGELABEL_SOAK_SECONDS"] ?? size(900, 10));
/** Messages a second over MQTT, and the share of them that is malformed. */
const RATE = 200;
const MALFORMED = 0.2;
/** A connection is lost so often. */
const LOST_EVERY_MS = Math.max(5_000, (SECONDS * 1_000) / 20);
const folder = mkdtempSync(join(tmpdir(), "edgelabel-soak-"));
const at = (name: string): string => join(folder, name);
afterAll(() => rmSync(folder, { recursive: true }));

/** Runs in the service's process, and says how late its event loop was. */
const WATCH = `
import { writeFileSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";
if (process.argv.includes("serve")) {
  const delay = monitorEventLoopDelay({ resolution: 5 });
  delay.enable();
  setInterval(() => writeFileSync(process.env.EVENT_LOOP, JSON.stringify({ p99: delay.percentile(99) / 1e6, max: delay.max / 1e6 })), 500).unref();
}`;

/** Between the service and the broker: a line that can be cut. */
async function cuttable(port: number): Promise<{ port: number; cut(): void }> {
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = createConnection(port, "127.0.0.1");
    for (const [a, b] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(a);
      a.setNoDelay(true);
      a.on("error", () => {});
      a.once("close", () => {
        sockets.delete(a);
        b.destroy();
      });
      a.pipe(b);
    }
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  onTestFinished(() => void server.close());
  return {
    port: (server.address() as AddressInfo).port,
    cut: () => {
      for (const socket of sockets) socket.destroy();
    },
  };
}

function malformed(random: Seeded): Buffer {
  const kinds = [
    () => Buffer.from(`{"text":${"[".repeat(random.below(5_000))}`),
    () => Buffer.from(`{"text":"on","id":${"[".repeat(100)}1${"]".repeat(100)}}`),
    () => Buffer.from('{"texts":[]}'),
    () => Buffer.from('{"text":"on","topK":-1,"id":"bad"}'),
    () => Buffer.from('{"text":"on","replyTo":"a/+/#"}'),
    () => Buffer.from('{"text":"on","model":1,"deadline":"x"}'),
    () => Buffer.from(Array.from({ length: 1 + random.below(300) }, () => random.below(256))),
    () => Buffer.alloc(random.below(300_000), 0x7b),
    () => Buffer.alloc(0),
  ];
  return random.pick(kinds)();
}

describeMosquitto("soak", (binaries) => {
  test(
    `${SECONDS} s of everything: none unanswered, and nothing grows`,
    async () => {
      writeFileSync(at("watch.mjs"), WATCH);
      writeFileSync(at("data.tsv"), LAMPS.join(""));
      const corrections = ["kitchen", "bedroom", "hall", "garden"].flatMap((room) => [
        { label: "on", text: `the ${room} needs everything` },
        { label: "off", text: `the ${room} needs nothing` },
      ]);
      writeFileSync(
        at("valid.tsv"),
        [
          ...LAMPS.filter((_, i) => i % 7 === 0),
          ...["office", "cellar", "attic", "garage"].flatMap((room) => [
            `on\tthe ${room} needs everything\n`,
            `off\tthe ${room} needs nothing\n`,
          ]),
        ].join(""),
      );
      await json("train", at("data.tsv"), "-o", at("lamps.elb"), ...SMALL);
      await json("quantize", at("lamps.elb"), "-o", at("lamps.wasm"));
      const broker = await startMosquitto(binaries, {
        lines: ["set_tcp_nodelay true", "max_queued_messages 0", "max_inflight_messages 1000"],
      });
      const line = await cuttable(broker.port);
      writeFileSync(
        at("edgelabel.json"),
        JSON.stringify({
          models: ["lamps.wasm"],
          broker: `mqtt://127.0.0.1:${line.port}`,
          node: topics.node,
          commands: true,
          http: 0,
          learning: { lamps: { training: "lamps.elb", data: "data.tsv", valid: "valid.tsv" } },
          routes: [
            {
              name: "sms",
              filter: "sms/+",
              text: "/message",
              outputs: [{ topic: "out/{1}", payload: { id: "{/id}", label: "{label}" }, when: "any", qos: 1 }],
            },
          ],
          announcements: [{ topic: "announced", payload: "{id}", again: { topic: "birth" } }],
        }),
      );
      const { child: service, http } = await serve(["--config", at("edgelabel.json")], {
        node: [process.execPath, "--import", at("watch.mjs")],
        env: { ...process.env, EVENT_LOOP: at("loop.json") },
      });
      const residentMb = () =>
        Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${service.pid}/status`, "utf8"))![1]) / 1024;
      const descriptors = () => readdirSync(`/proc/${service.pid}/fd`).length;

      const random = new Seeded(13);
      const client = await TestClient.connect(broker.url, 5);
      await client.subscribe("answers/+", "out/+");
      /** Requests and messages of routes that are due an answer; those at QoS 0 until the connection was cut. */
      const due = new Map<string, { qos: 0 | 1 | 2; at: number }>();
      const counts = { asked: 0, answered: 0, malformed: 0, http: 0, learnt: 0, cuts: 0 };
      client.client.on("message", (_topic, payload) => {
        const { id } = JSON.parse(payload.toString()) as { id: string };
        if (due.delete(id)) counts.answered++;
        client.received.length = 0;
      });
      const faults: string[] = [];
      let lastCut = 0;
      const end = performance.now() + 1_000 * SECONDS;
      const isOver = () => performance.now() >= end;

      async function messages(): Promise<void> {
        let next = performance.now();
        for (let i = 0; !isOver(); i++) {
          next += 1_000 / RATE;
          if (next > performance.now()) await pause(next - performance.now());
          const qos = random.below(3) as 0 | 1 | 2;
          const isRoute = random.below(3) === 0;
          if (random.next() < MALFORMED) {
            counts.malformed++;
            client.client.publish(isRoute ? `sms/${i % 7}` : topics.classify, malformed(random), { qos }, () => {});
            if (counts.malformed % 50 === 0) client.client.publish("birth", "x");
            continue;
          }
          const id = String(i);
          const text = `${LAMPS[i % LAMPS.length]!.split("\t")[1]!.trim()} ${i}`;
          due.set(id, { qos, at: performance.now() });
          counts.asked++;
          if (isRoute) client.client.publish(`sms/${i % 7}`, JSON.stringify({ message: text, id }), { qos }, () => {});
          else
            client.client.publish(
              topics.classify,
              JSON.stringify({ text, id, replyTo: `answers/${i % 5}` }),
              { qos },
              () => {},
            );
        }
      }

      async function overHttp(): Promise<void> {
        while (!isOver()) {
          const isBad = random.next() < MALFORMED;
          const response = await fetch(`${http}/predict`, {
            method: "POST",
            headers: { "Content-Type": "application/json" },
            body: isBad ? new Uint8Array(malformed(random)) : JSON.stringify({ data: "switch the lamp on" }),
          });
          await response.text();
          if (!(isBad ? [200, 400, 413, 503] : [200, 503]).includes(response.status))
            faults.push(`HTTP ${response.status}`);
          counts.http++;
          await pause(50);
        }
      }

      const admin = await TestClient.connect(broker.url, 5);
      await admin.subscribe(`${topics.command}/#`);
      async function learning(): Promise<void> {
        for (let i = 0; !isOver(); i++) {
          const ended = async (id: string, args: object) => {
            await admin.publish(`${topics.command}/learn/${id}`, JSON.stringify({ status: "init", ...args }));
            const { json } = await admin.next(
              (message) =>
                message.topic === `${topics.command}/learn/${id}` && /^(successful|failed)$/.test(message.json?.status),
              120_000,
            );
            admin.received.length = 0;
            await admin.publish(`${topics.command}/learn/${id}`, "", { qos: 1, retain: true });
            return json.status as string;
          };
          if (
            (await ended(`l${i}`, { corrections })) === "successful" &&
            (await ended(`u${i}`, { undo: true })) === "successful"
          )
            counts.learnt++;
          await pause(Math.min(20_000, SECONDS * 100));
        }
      }

      async function losses(): Promise<void> {
        while (!isOver()) {
          await pause(Math.min(LOST_EVERY_MS, Math.max(0, end - performance.now())));
          if (isOver()) return;
          lastCut = performance.now();
          line.cut();
          counts.cuts++;
        }
      }

      const figures: { mb: number; fds: number }[] = [];
      async function watch(): Promise<void> {
        while (!isOver()) {
          await pause(Math.min(1_000, SECONDS * 10));
          figures.push({ mb: residentMb(), fds: descriptors() });
        }
      }

      await Promise.all([messages(), overHttp(), learning(), losses(), watch()]);
      // Nobody promised an answer at QoS 0 to what was on its way when the line was cut; Mosquitto drops it, too.
      const promised = () =>
        [...due.values()].filter(({ qos, at: sentAt }) => qos > 0 || sentAt > lastCut + 10_000).length;
      await until(() => promised() === 0, 60_000).catch(() => {});
      const third = Math.floor(figures.length / 3);
      const mean = (part: typeof figures, of: (figure: { mb: number; fds: number }) => number) =>
        part.reduce((sum, figure) => sum + of(figure), 0) / part.length;
      const [before, after] = [figures.slice(third, 2 * third), figures.slice(2 * third)];
      const loop = JSON.parse(readFileSync(at("loop.json"), "utf8")) as { p99: number; max: number };
      process.stdout.write(
        `soak: ${SECONDS} s, ${counts.asked} messages at QoS 0 to 2, ${counts.answered} answered, ${promised()} unanswered, ${due.size - promised()} lost at QoS 0 in ${counts.cuts} cuts; ${counts.malformed} malformed, ${counts.http} over HTTP, ${counts.learnt} × learnt and undone; ` +
          `RSS ${mean(before, ({ mb }) => mb).toFixed(1)} MB in the second third, ${mean(after, ({ mb }) => mb).toFixed(1)} MB in the last; descriptors ${mean(before, ({ fds }) => fds).toFixed(1)}, ${mean(after, ({ fds }) => fds).toFixed(1)}; event loop p99 ${loop.p99.toFixed(1)} ms, at most ${loop.max.toFixed(1)} ms\n`,
      );
      expect(promised()).toBe(0);
      expect(faults).toEqual([]);
      expect(service.exitCode).toBeNull();
      expect(counts.answered).toBeGreaterThan(0.8 * counts.asked);
      expect(await (await fetch(`${http}/metrics`)).text()).not.toContain('reason="failed"');
      if (SECONDS < 60) return;
      expect(counts.learnt).toBeGreaterThan(0);
      expect(mean(after, ({ mb }) => mb)).toBeLessThan(1.1 * mean(before, ({ mb }) => mb) + 10);
      expect(mean(after, ({ fds }) => fds)).toBeLessThan(mean(before, ({ fds }) => fds) + 3);
      await client.close();
      await admin.close();
    },
    1_000 * SECONDS + 240_000,
  );
});
