// What tests of several workers share: workers as processes, and requesters that do
// what deploy/README.md asks of them: an id, a deadline, and a second try.
import type { ChildProcess } from "node:child_process";
import mqtt from "mqtt";
import type { MqttClient } from "mqtt";
import { serve } from "../support/program.ts";
import { pause } from "../support/wait.ts";

export interface Worker {
  process: ChildProcess;
  http: string;
  /** A figure of /metrics, such as `edgelabel_texts_total{model="spam"}`; 0 when there is none. */
  metric(series: string): Promise<number>;
  /** MQTT requests that came in since it started. */
  requests(): Promise<number>;
  /** Whether requests come in from the broker now. */
  isReady(): Promise<boolean>;
  log(): string;
  end(signal: NodeJS.Signals): Promise<void>;
}

/** Starts `serve` with these arguments; resolves when it takes requests. */
export async function startWorker(...args: string[]): Promise<Worker> {
  const { child, http, output, end } = await serve([...args, "--http", "0"]);
  const metric = async (series: string) => {
    const line = (await (await fetch(`${http}/metrics`)).text())
      .split("\n")
      .find((each) => each.startsWith(`${series} `));
    return Number(line?.slice(series.length) ?? 0);
  };
  return {
    process: child,
    http,
    metric,
    requests: () => metric('edgelabel_requests_total{transport="mqtt"}'),
    isReady: async () => (await fetch(`${http}/readyz`)).ok,
    log: output,
    end: async (signal) => void (await end(signal)),
  };
}

const WINDOW = 32;
const TRY_AGAIN_MS = 1_000;

/** Asks on one topic, at QoS 1 and 2 in turn, each request again after a second until it is answered. */
export class Requester {
  /** All answers that came, by the request's id. */
  readonly answers = new Map<number, string[]>();
  /** Requests that were sent more than once. */
  readonly repeated = new Set<number>();
  private readonly client: MqttClient;
  private readonly topic: string;
  private readonly replyTopic: string;

  private readonly protocol: 4 | 5;

  private constructor(client: MqttClient, topic: string, replyTopic: string, protocol: 4 | 5) {
    this.client = client;
    this.protocol = protocol;
    this.topic = topic;
    this.replyTopic = replyTopic;
    client.on("error", () => {});
    client.on("message", (_topic, payload, { properties }) => {
      let text = payload.toString();
      let id = Number(properties?.correlationData?.toString());
      if (this.protocol === 4) {
        const { id: given, ...answer } = JSON.parse(text) as { id: number };
        [id, text] = [given, JSON.stringify(answer)];
      }
      this.answers.set(id, [...(this.answers.get(id) ?? []), text]);
    });
  }

  /** With several brokers, the client goes to the next one when it loses the first. */
  static async connect(
    urls: readonly string[],
    topic: string,
    replyTopic: string,
    protocol: 4 | 5 = 5,
  ): Promise<Requester> {
    const servers = urls
      .map((url) => new URL(url))
      .map(({ hostname: host, port }) => ({ host, port: Number(port), protocol: "mqtt" as const }));
    const client = await mqtt.connectAsync({
      servers,
      protocolVersion: protocol,
      reconnectPeriod: 200,
      connectTimeout: 2_000,
    });
    await client.subscribeAsync(replyTopic, { qos: 1 });
    return new Requester(client, topic, replyTopic, protocol);
  }

  /** Asks all of `texts`, ids from `first` on; resolves when all are answered. `tryAgainMs` may be Infinity: no request is sent twice. */
  async ask(texts: readonly string[], first: number, deadlineMs: number, tryAgainMs = TRY_AGAIN_MS): Promise<void> {
    const deadline = Date.now() + deadlineMs;
    const sentAt = new Map<number, number>();
    let next = first;
    while (next < first + texts.length || sentAt.size > 0) {
      for (const [id, at] of sentAt) {
        if (this.answers.has(id)) sentAt.delete(id);
        else if (Date.now() - at > tryAgainMs && this.client.connected) {
          this.repeated.add(id);
          this.send(texts[id - first]!, id);
          sentAt.set(id, Date.now());
        }
      }
      while (next < first + texts.length && sentAt.size < WINDOW && this.client.connected) {
        this.send(texts[next - first]!, next);
        sentAt.set(next++, Date.now());
      }
      if (Date.now() > deadline)
        throw new Error(
          `${sentAt.size + first + texts.length - next} of ${texts.length} requests were not answered within ${deadlineMs} ms`,
        );
      await pause(2);
    }
  }

  private send(text: string, id: number): void {
    const qos = id % 2 === 0 ? 1 : 2;
    if (this.protocol === 4)
      this.client.publish(this.topic, JSON.stringify({ text, id, replyTo: this.replyTopic }), { qos }, () => {});
    else
      this.client.publish(
        this.topic,
        text,
        { qos, properties: { responseTopic: this.replyTopic, correlationData: Buffer.from(String(id)) } },
        () => {},
      );
  }

  async close(): Promise<void> {
    await this.client.endAsync(true);
  }
}
