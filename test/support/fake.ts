// A stand-in for a loaded model, a service around it, MQTT clients to talk to it, and an old broker.
import { createConnection, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import mqtt from "mqtt";
import type { IClientPublishOptions, IPublishPacket, MqttClient } from "mqtt";
import { onTestFinished, vi } from "vitest";
import type { Prediction } from "../../host/model/classifier.ts";
import type { Explanation } from "../../host/model/explanation.ts";
import type { Limits } from "../../host/service/limits.ts";
import { HttpLogin } from "../../host/service/http/login.ts";
import type { UserSettings } from "../../host/service/users.ts";
import type { Log } from "../../host/service/log.ts";
import { Service } from "../../host/service/service.ts";
import type { Model } from "../../host/service/answer/predictor.ts";
import type { ServiceOptions } from "../../host/service/service.ts";
import { topicsOf } from "../../host/service/topics.ts";
import { pause, PATIENCE_MS } from "./wait.ts";

/** "win" makes spam, "boom" an internal fault, and over 100,000 bytes is too long. */
export function fakeModel(version = "1.0.0"): Model {
  return {
    version,
    labels: ["ham", "spam"],
    isMultiLabel: false,
    digest: "0".repeat(64),
    classify(text: string | Uint8Array, top = 1): Prediction {
      const words = Buffer.from(text).toString();
      if (words.length > 100_000)
        throw Object.assign(new Error("the text has more than 100000 bytes"), { code: "text_too_long" });
      if (words === "boom") throw new Error("trap");
      const [label, other] = words.includes("win") ? ["spam", "ham"] : ["ham", "spam"];
      return {
        label,
        score: 0.875,
        scores: Object.fromEntries(Object.entries({ [label]: 0.875, [other]: 0.125 }).slice(0, top || 2)),
      };
    },
    // One pass a letter.
    *explaining(text: string | Uint8Array): Generator<undefined, Explanation> {
      const token = Buffer.from(text).toString();
      for (const _ of token) yield;
      return {
        label: "spam",
        score: 0.875,
        base: 0.5,
        method: "occlusion",
        sum: 0.375,
        error: 0,
        tokens: [{ token, start: 0, end: text.length, share: 0.375 }],
      };
    },
  };
}

/** Gives a text "spam" for "win", "urgent" for "now" and "fraud" for "bank"; it explains the label that is asked for. */
export function fakeSeveral(version = "1.0.0"): Model {
  const ofWord = { win: ["spam", 0.875], now: ["urgent", 0.75], bank: ["fraud", 0.625] } as const;
  const model = fakeModel(version);
  return {
    ...model,
    labels: ["fraud", "spam", "urgent"],
    isMultiLabel: true,
    classify(text: string | Uint8Array, top = 1): Prediction {
      const words = Buffer.from(text).toString();
      const all = Object.entries(ofWord).map(([word, [label, score]]) => {
        const isGiven = words.includes(word);
        return { label, score: isGiven ? score : 0.125, isGiven };
      });
      all.sort((one, other) => other.score - one.score);
      const labels = all.flatMap(({ label, score, isGiven }) => (isGiven ? [{ label, score }] : []));
      return {
        label: labels[0]?.label ?? null,
        score: all[0]!.score,
        ...(labels.length > 0 ? {} : { unknown: true }),
        labels,
        scores: Object.fromEntries(all.slice(0, top || 3).map(({ label, score }) => [label, score])),
      };
    },
    *explaining(text: string | Uint8Array, label = "fraud"): Generator<undefined, Explanation> {
      return { ...(yield* model.explaining(text)), label };
    },
  };
}

/** Takes that time for each text. */
export function slowModel(ms: number): Model {
  const model = fakeModel();
  return {
    ...model,
    classify(text, top) {
      for (const end = performance.now() + ms; performance.now() < end;);
      return model.classify(text, top);
    },
  };
}

/** Users with these rights and one password, of which this is the hash. */
export function loginOf(rights: Readonly<Record<string, Omit<UserSettings, "password">>>, hash: string): HttpLogin {
  const users = Object.entries(rights).map(([name, each]) => [name, { ...each, password: hash }]);
  return new HttpLogin(Object.fromEntries(users), topics, recordingLog());
}

/** Leaves no room for requests over HTTP from this machine; call the result to make room again. */
export function fillQueue({ predictor }: Service): () => void {
  let isDone = false;
  // This client has its fair half of the queue already.
  for (const requester of ["http 127.0.0.1", "someone"])
    predictor.queue.offer({
      requester,
      texts: limits.queuedTexts / 2,
      bytes: 1,
      expiresAt: Infinity,
      step: () => isDone,
      refuse() {},
    });
  return () => {
    isDone = true;
  };
}

/** No text gets its turn until the result is called. */
export function holdQueue({ predictor: { queue } }: Service): () => void {
  const run = vi.spyOn(queue as unknown as { run(): void }, "run").mockReturnValue();
  return () => {
    run.mockRestore();
    queue["run"]();
  };
}

export const limits: Limits = {
  payloadBytes: 200_000,
  textsPerRequest: 100,
  queuedAnswers: 50,
  queuedTexts: 1000,
  requesters: 1000,
  rememberedAnswers: 1000,
  rememberSeconds: 300,
  queuedBytes: 1_000_000,
  answerSeconds: 30,
  answerBytes: 100_000,
};
export const topics = topicsOf("edgelabel", "gate-1");

export function recordingLog(): Log & { lines: string[] } {
  const lines: string[] = [];
  const record = (message: string) => void lines.push(message);
  return { lines, info: record, warn: record, error: record };
}

export function fakeService(options: Partial<ServiceOptions> & Pick<ServiceOptions, "access">): Service {
  return new Service({
    models: new Map([
      ["spam", fakeModel()],
      ["other", fakeModel("2.0.0")],
    ]),
    topics,
    clientId: "edgelabel-gate-1",
    limits,
    responses: { allow: ["#"], deny: [] },
    log: recordingLog(),
    ...options,
  });
}

export interface Received {
  topic: string;
  text: string;
  json: any;
  packet: IPublishPacket;
}

export class TestClient {
  readonly client: MqttClient;
  readonly received: Received[] = [];
  private wake: (() => void)[] = [];

  private constructor(client: MqttClient) {
    this.client = client;
    client.on("message", (topic, payload, packet) => {
      const text = payload.toString();
      let json: unknown;
      try {
        json = JSON.parse(text);
      } catch {
        json = undefined;
      }
      this.received.push({ topic, text, json, packet });
      for (const wake of this.wake.splice(0)) wake();
    });
  }

  static async connect(url: string, protocol: 4 | 5): Promise<TestClient> {
    const client = await mqtt.connectAsync(url, { protocolVersion: protocol, reconnectPeriod: 200 });
    (client.stream as unknown as Socket).setNoDelay(true);
    return new TestClient(client);
  }

  async subscribe(...filters: string[]): Promise<void> {
    await this.client.subscribeAsync(filters, { qos: 1 });
  }

  async publish(topic: string, payload: string | Buffer, options: IClientPublishOptions = { qos: 1 }): Promise<void> {
    await this.client.publishAsync(topic, payload, options);
  }

  /** The first message that fits, waited for, and taken. */
  async next(fits: (message: Received) => boolean = () => true, timeoutMs = PATIENCE_MS): Promise<Received> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const index = this.received.findIndex(fits);
      if (index >= 0) return this.received.splice(index, 1)[0]!;
      if (Date.now() >= deadline)
        throw new Error(
          `no such message within ${timeoutMs} ms; there were ${JSON.stringify(this.received.map(({ topic, text }) => [topic, text.slice(0, 200)]))}`,
        );
      await Promise.race([
        new Promise<void>((resolve) => {
          this.wake.push(resolve);
        }),
        pause(deadline - Date.now()),
      ]);
    }
  }

  /**
   * What has come, and was not taken, by the time that the service answers a request made now.
   * What the service sent before, or the broker delivers before, is among it.
   */
  async settled(classify = topics.classify, reply = topics.reply): Promise<Received[]> {
    const replyTo = `${reply}/sentinel-${++sentinels}`;
    await this.subscribe(replyTo);
    await this.publish(classify, JSON.stringify({ text: "sentinel", replyTo }));
    await this.next(({ topic }) => topic === replyTo);
    return this.received.filter(({ topic, text }) => topic !== replyTo && !text.includes(replyTo));
  }

  async close(): Promise<void> {
    await this.client.endAsync(true);
  }
}

/** The URL of a broker that speaks MQTT 3.1.1 only, for this test: the one on that port, behind a door that refuses MQTT 5. */
export async function startOld(port: number): Promise<string> {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", (connect: Buffer) => {
      if (connect[connect.indexOf("MQTT") + 4] === 5) {
        // CONNACK of MQTT 3.1.1: unacceptable protocol version.
        socket.end(Buffer.from([0x20, 2, 0, 1]));
        return;
      }
      const broker = createConnection(port, "127.0.0.1");
      broker.on("error", () => {});
      for (const [one, other] of [
        [socket, broker],
        [broker, socket],
      ] as const)
        one.on("close", () => other.destroy());
      broker.write(connect);
      socket.pipe(broker).pipe(socket);
    });
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  onTestFinished(() => void server.close());
  return `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

let sentinels = 0;

/** The retained messages that fit the filters. */
export async function retained(url: string, ...filters: string[]): Promise<Received[]> {
  const client = await TestClient.connect(url, 4);
  try {
    const last = `sentinel/${++sentinels}`;
    await client.publish(last, "the last one", { qos: 1, retain: true });
    for (const filter of [...filters, last]) await client.subscribe(filter);
    await client.next(({ topic }) => topic === last);
    return client.received;
  } finally {
    await client.close();
  }
}

/** The value of one series, 0 when it does not exist. */
export async function counter(service: Service, series: string): Promise<number> {
  const text = await service.metrics.text();
  const line = text.split("\n").find((candidate) => candidate.startsWith(`${series} `));
  return line ? Number(line.slice(series.length + 1)) : 0;
}
