// `edgelabel ask`: texts -> requests over MQTT -> one line `label<TAB>score` each, or of several labels more such
// columns, in the order of the texts. MQTT 5 response topic where the broker speaks it,
// `replyTo` on 3.1.1. Fails on the first text that gets no label.
import { randomBytes } from "node:crypto";
import { Command, InvalidArgumentError } from "commander";
import type { IClientPublishOptions, IPublishPacket, MqttClient } from "mqtt";
import { EdgelabelError } from "../errors.ts";
import { printable } from "../escape.ts";
import { accessOf, defaultNode } from "../service/mqtt/access.ts";
import { connectOnce, shownUrl } from "../service/mqtt/connection.ts";
import type { Protocol } from "../service/mqtt/connection.ts";
import { whoIsOnline } from "../service/mqtt/online.ts";
import { checkLevel } from "../names.ts";
import { isUserLevel, topicsOf, userTopics } from "../service/topics.ts";
import { addBrokerOptions } from "./broker-options.ts";
import type { BrokerOptions } from "../service/mqtt/access.ts";
import { linesOf } from "./lines.ts";
import { noteFileName } from "./terminal.ts";

interface AskOptions extends BrokerOptions {
  broker: string;
  node?: string;
  root: string;
  model?: string;
  timeout: number;
  json?: boolean;
}

interface AnswerMessage {
  id?: unknown;
  label?: string | null;
  score?: number;
  labels?: { label: string; score: number }[];
  error?: { code?: string; message?: string };
}

/** Requests in flight; far fewer than any broker queues. */
const WINDOW = 16;
const NO_SUBSCRIBER = 0x10;

function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (!(seconds > 0 && seconds <= 86_400))
    throw new InvalidArgumentError("a time is a number of seconds above 0, at most 86400.");
  return seconds;
}

export function askCommand(): Command {
  return addBrokerOptions(
    new Command("ask")
      .argument("[texts...]", "texts; without any, one a line from standard input")
      .option(
        "--broker <urls>",
        "mqtt://, mqtts://, ws:// or wss://HOST[:PORT]; several nodes of a cluster separated by commas",
        "mqtt://127.0.0.1:1883",
      )
      .option("--node <name>", "node name of the service, or the name of its group (default: the host name)")
      .option("--root <topic>", "first levels of all topics", "edgelabel")
      .option("--model <name>", "model to ask (default: the service's first one)")
      .option("--timeout <seconds>", "how long to wait for an answer", parseSeconds, 10)
      .option("--json", "print the answers as they are, one JSON object a line"),
  )
    .addHelpText(
      "after",
      "\nExamples:\n  edgelabel ask 'you won a prize' --node gate-1\n  edgelabel ask --broker mqtt://192.168.1.5 --node gate-1 --json < texts.txt",
    )
    .action(async (texts: string[], options: AskOptions) => {
      await noteFileName(texts, "ask");
      const asked = texts.length > 0 ? texts : await readLines();
      if (asked.length > 0) await ask(asked, options);
    });
}

/** Lines of standard input, including empty ones, so that output and input have the same line numbers. */
async function readLines(): Promise<string[]> {
  const texts: string[] = [];
  for await (const lines of linesOf(process.stdin)) for (const line of lines) texts.push(Buffer.from(line).toString());
  return texts;
}

async function ask(texts: readonly string[], options: AskOptions): Promise<void> {
  const access = accessOf(options);
  const topics = topicsOf(options.root, options.node ?? defaultNode());
  const { classify, reply } =
    access.username !== undefined && isUserLevel(access.username) ? userTopics(topics, access.username) : topics;
  const requestTopic =
    options.model === undefined ? classify : `${classify}/${checkLevel("model name", options.model)}`;
  const { client, protocol } = await connectOnce(access);
  try {
    await exchange(client, protocol, {
      texts,
      requestTopic,
      replyTopic: `${reply}/${randomBytes(8).toString("hex")}`,
      statusTopic: topics.status,
      options,
    });
  } finally {
    client.end(true);
  }
}

interface Exchange {
  texts: readonly string[];
  requestTopic: string;
  replyTopic: string;
  statusTopic: string;
  options: AskOptions;
}

/** Sends the requests, a window of them at a time, and prints the answers in the order of the texts. */
function exchange(
  client: MqttClient,
  protocol: Protocol,
  { texts, requestTopic, replyTopic, statusTopic, options }: Exchange,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const lines: string[] = [];
    let status = "";
    let sent = 0;
    let printed = 0;
    let timer: NodeJS.Timeout;

    const fail = (message: string) => {
      clearTimeout(timer);
      reject(new EdgelabelError(message));
    };
    const failUnanswered = async (problem: string) => {
      clearTimeout(timer);
      const others = status === "online" ? "" : await whoIsOnline(client, options.root);
      fail(`${problem}: ${serviceState(status, statusTopic)}${others && `; ${others}`}`);
    };
    const restartTimer = () => {
      clearTimeout(timer);
      timer = setTimeout(
        () => void failUnanswered(`no answer on ${requestTopic} within ${options.timeout} s`),
        options.timeout * 1000,
      );
    };

    const send = () => {
      while (sent < texts.length && sent < printed + WINDOW) {
        const index = sent++;
        const { payload, ...publishOptions } = encodeRequest(
          texts[index]!,
          String(index),
          protocol,
          replyTopic,
          options.timeout,
        );
        client.publish(requestTopic, payload, publishOptions, (error, packet) => {
          if (error) fail(`the broker refuses the request on ${requestTopic}: ${error.message}`);
          else if ((packet as { reasonCode?: number } | undefined)?.reasonCode === NO_SUBSCRIBER)
            void failUnanswered(`nobody answers on ${requestTopic}`);
        });
      }
    };

    const onAnswer = (packet: IPublishPacket) => {
      const answer = parseAnswer(packet);
      if (typeof answer === "string") {
        fail(answer);
        return;
      }
      const { index, label, score, labels = [] } = answer;
      if (!Number.isInteger(index) || index < printed || index >= sent || typeof score !== "number") return;
      const columns = (labels.length > 0 ? labels : [{ label: label ?? "?", score }]).map(
        (each) => `${printable(each.label)}\t${each.score.toFixed(6)}`,
      );
      lines[index] = options.json ? answer.text : columns.join("\t");
      while (lines[printed] !== undefined) process.stdout.write(`${lines[printed++]}\n`);
      restartTimer();
      send();
      if (printed === texts.length) {
        clearTimeout(timer);
        resolve();
      }
    };

    client.on("message", (topic, payload, packet) => {
      if (topic === statusTopic) status = payload.toString();
      else if (topic === replyTopic) onAnswer(packet);
    });
    client.on("close", () => fail(`${shownUrl(options.broker)} closed the connection`));
    restartTimer();
    // Only used to explain a missing answer: not every user may read the status, and a group has none.
    client.subscribe(statusTopic, () => {});
    client.subscribe(replyTopic, { qos: 1 }, (error) => {
      if (error) fail(`the broker refuses the subscription to ${replyTopic}: ${error.message}`);
      else send();
    });
  });
}

/** A request whose answer comes to `replyTopic` with the same id. The topic is a property in MQTT 5, a field of the payload in 3.1.1. */
function encodeRequest(
  text: string,
  id: string,
  protocol: Protocol,
  replyTopic: string,
  timeoutSeconds: number,
): IClientPublishOptions & { payload: string } {
  if (protocol === 4) return { payload: JSON.stringify({ text, id, replyTo: replyTopic }), qos: 1 };
  return {
    payload: JSON.stringify({ text, id }),
    qos: 1,
    properties: {
      responseTopic: replyTopic,
      correlationData: Buffer.from(id),
      contentType: "application/json",
      messageExpiryInterval: Math.ceil(timeoutSeconds),
    },
  };
}

/** The answer, with the index of its text and its own JSON as `text`; or what is wrong with it, in words for the user. */
function parseAnswer({
  payload,
  properties,
}: IPublishPacket): (AnswerMessage & { index: number; text: string }) | string {
  const text = payload.toString();
  let answer: AnswerMessage | null;
  try {
    answer = JSON.parse(text) as AnswerMessage | null;
  } catch {
    return "the answer is not JSON: something else answers on this topic";
  }
  if (answer?.error)
    return `the service answers ${printable(String(answer.error.code))}: ${printable(String(answer.error.message))}`;
  return { ...answer, text, index: Number(properties?.correlationData?.toString() ?? answer?.id) };
}

function serviceState(status: string, statusTopic: string): string {
  if (status === "online") return "the service is online but does not answer";
  if (status === "offline") return `the service is offline (${statusTopic})`;
  return `no service has reported on ${statusTopic}; does edgelabel serve run with this --node or --group on this broker?`;
}
