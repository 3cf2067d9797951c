// Eclipse Paho's interoperability tests, which others wrote, on the embedded broker and beside it on Mosquitto as it is
// without a configuration: which tests fail on each, and no others.
import { execFile, execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { startBroker } from "../../host/service/broker/broker.ts";
import { describeMosquitto, startMosquitto } from "../support/mosquitto.ts";
import { fetchPaho } from "../tools/fetch-paho.mjs";
import { describeWith, onlyLong } from "./needs.ts";

type Protocol = "3.1.1" | "5";
const SUITES: Record<Protocol, string> = { "3.1.1": "client_test.py", "5": "client_test5.py" };
const script = fileURLToPath(new URL("paho.py", import.meta.url));
/** The longest test takes 20 s. One that waits for what never comes has failed. */
const TEST_MS = 60_000;
/** Its clients wait half a second for an answer, which a busy machine can take longer for. */
const TRIES = 3;

/** What has no reason in a broker, but in the test. */
const NOBODYS = {
  test_subscribe_failure: "wants a topic refused that no rule forbids",
  test_server_keep_alive: "wants 60 s, whatever the client asks for",
};

const FAILURES: Record<"embedded" | "Mosquitto", Record<Protocol, object>> = {
  embedded: {
    "3.1.1": {
      test_offline_message_queueing: "sessions end with their connection",
      test_redelivery_on_reconnect: "sessions end with their connection",
      test_subscribe_failure: NOBODYS.test_subscribe_failure,
    },
    "5": {
      test_flow_control1: "Aedes does not keep to the Receive Maximum of a client",
      test_flow_control2: "cut off as it wants, but while it is still writing",
      test_offline_message_queueing: "sessions end with their connection",
      test_publication_expiry: "sessions end with their connection",
      test_redelivery_on_reconnect: "sessions end with their connection",
      test_session_expiry: "sessions end with their connection",
      test_shared_subscriptions: "not served, and CONNACK says so",
      test_will_delay: "a will is published when its session ends",
      test_server_topic_alias: "optional: the broker gives topics no aliases",
      ...NOBODYS,
    },
  },
  Mosquitto: {
    "3.1.1": {
      test_overlapping_subscriptions: "the one message has the QoS of the wrong filter",
      test_subscribe_failure: NOBODYS.test_subscribe_failure,
    },
    "5": {
      test_flow_control2: "it waits, instead of ending the connection",
      test_subscribe_identifiers: "a message for each filter that matches, where the test wants one",
      test_server_topic_alias: "optional: the broker gives topics no aliases",
      test_will_delay: "waits the whole delay, although the session has ended",
      ...NOBODYS,
    },
  },
};

describeWith("Paho's interoperability tests", "Paho", onlyLong(fetchPaho), (cwd) => {
  /** Why the test fails: the last error that it prints. */
  function run(args: string[]): Promise<string | undefined> {
    return new Promise((resolve) => {
      execFile("python3", args, { cwd, timeout: TEST_MS, killSignal: "SIGKILL" }, (error, _output, said) => {
        const errors = said.match(/^\w+(?:Error|Exception)\b.*$/gm)?.filter((line) => !line.includes("False != True"));
        resolve(error ? (error.killed ? "does not end" : (errors?.at(-1) ?? "fails")) : undefined);
      });
    });
  }

  async function judge(broker: keyof typeof FAILURES, protocol: Protocol, port: number): Promise<void> {
    const args = [script, SUITES[protocol], String(port)];
    const names = execFileSync("python3", args, { cwd, encoding: "utf8" }).match(/^test\w+$/gm)!;
    const failed: string[] = [];
    for (const name of names) {
      let why: string | undefined;
      for (let i = 0; i < TRIES; i++) {
        why = await run([...args, name]);
        if (why === undefined || name in FAILURES[broker][protocol]) break;
      }
      if (why !== undefined) failed.push(name);
      process.stdout.write(`paho: ${broker}, MQTT ${protocol}, ${name}: ${why ?? "passes"}\n`);
    }
    process.stdout.write(`paho: ${broker}, MQTT ${protocol}: ${names.length - failed.length} of ${names.length}\n`);
    expect(failed.toSorted()).toEqual(Object.keys(FAILURES[broker][protocol]).toSorted());
  }

  test.each(["3.1.1", "5"] as const)("the embedded broker, MQTT %s", { timeout: 1_800_000 }, async (protocol) => {
    const broker = await startBroker({ port: 0 });
    try {
      await judge("embedded", protocol, broker.port);
    } finally {
      await broker.close();
    }
  });

  describeMosquitto("Mosquitto", (binaries) => {
    test.each(["3.1.1", "5"] as const)("MQTT %s", { timeout: 1_800_000 }, async (protocol) => {
      const { port } = await startMosquitto(binaries);
      await judge("Mosquitto", protocol, port);
    });
  });
});
