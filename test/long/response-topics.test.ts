// Generated response topics, grammar and near misses: whatever a requester asks for, a real
// Mosquitto, on which somebody listens to everything, sees answers on allowed topics only, sees
// one on each that is allowed, and never loses the service. What is allowed is said here a
// second time, by regular expressions.
import { expect, test } from "vitest";
import mqtt from "mqtt";
import { fakeService, limits, type Received, TestClient, topics } from "../support/fake.ts";
import { pause, until } from "../support/wait.ts";
import { describeMosquitto, startMosquitto } from "../support/mosquitto.ts";
import { Seeded } from "../support/models.ts";
import { size } from "./size.ts";

const SEED = Number(process.env["TOPIC_SEED"] ?? 20261124);
const COUNT = size(10_000, 1_000);

/** What is asked for: what may be used, what belongs to others, and what nobody may use. */
const starts = [
  "answers",
  "answers/1",
  "answers/private/1",
  "answers/private",
  "site/a/out",
  "site/a/in",
  "site//out",
  "elsewhere/x",
  "sms/1",
  "sms",
  topics.label,
  `${topics.label}/spam`,
  topics.reply,
  `${topics.reply}/7`,
  topics.classify,
  `${topics.classify}/spam`,
  topics.status,
  topics.info,
  topics.metrics,
  "edgelabel",
  "edgelabel/gate-1",
  "edgelabel/gate-1/cmd/load/1",
  "edgelabel/gate-1/update/manifest",
  "edgelabel/gate-2/classify",
  "edgelabel/gate-2/label",
  "edgelabel/gate-2/reply/1",
  "edgelabel/gate-2/cmd/rollback/1",
  "$SYS/broker/version",
  "$SYS",
  "$share/group/answers/1",
  "$share/edgelabel/answers",
  "$queue/answers",
  "$answers/1",
  "homeassistant/sensor/x/config",
  "zigbee2mqtt/bridge/request/restart",
  "+",
  "#",
  "answers/+",
  "answers/#",
  "+/1",
  "",
  "/",
  "//",
  "/answers/1",
  "answers/",
  "answers//",
  "..",
  "answers/../edgelabel/gate-2/classify",
  `answers${"/a".repeat(64)}`,
];
/** Put in the place of a character, or beside one. */
const bits = [
  "/",
  "//",
  "+",
  "#",
  "$",
  "\0",
  "\u0001",
  "\n",
  "\u001b[2J",
  "\u007f",
  "\u0085",
  "\u200b",
  "\u202e",
  "\ufeff",
  "\ufffd",
  "\ufffe",
  "\uffff",
  "\u{1fffe}",
  "\u{10ffff}",
  "\ud800",
  "\udc00",
  "\u0430",
  "\u0435",
  "\uff0f",
  "\u2215",
  "e\u0301",
  "\u00e9",
  "%2f",
  "%00",
  "\\",
  " ",
  "\t",
  "A",
  "E",
  "\u{1f600}",
  "*",
  ".",
  "gate-2",
  "classify",
  "cmd",
  "$SYS/",
  "$share/g/",
];

function topic(next: Seeded): string {
  let made = next.pick(starts);
  if (next.below(6) === 0)
    made = Array.from({ length: 1 + next.below(next.below(8) ? 5 : 80) }, () => next.pick([...starts, ...bits])).join(
      next.pick(["/", ""]),
    );
  for (let changes = next.below(4); changes > 0; changes--) {
    const characters = [...made];
    const at = next.below(characters.length + 1);
    const how = next.below(7);
    if (how === 0) characters.splice(at, 0, next.pick(bits));
    else if (how === 1) characters.splice(at, 1, next.pick(bits));
    else if (how === 2) characters.splice(at, 1);
    else if (how === 3 && characters[at] !== undefined)
      characters[at] = next.below(2)
        ? characters[at].toUpperCase()
        : String.fromCodePoint(characters[at].codePointAt(0)! ^ (1 << next.below(6)));
    else if (how === 4) characters.splice(0, 0, next.pick(bits));
    else if (how === 5) characters.push(next.pick(bits));
    else if (next.below(12) === 0)
      characters.push("x".repeat(next.pick([1_000, 1_024, 1_025, 65_520, 65_535, 65_536, 70_000])));
    else characters.push("/", next.pick(starts));
    made = characters.join("");
  }
  return made;
}

/** The rule once more: legal for MQTT and for us, and ours to answer on. */
function isAllowed(name: string): boolean {
  if (Buffer.byteLength(name) > 1024 || name.split("/").length > 64 || !name.isWellFormed()) return false;
  if (
    /[\u0000-\u001f\u007f-\u009f+#]|^\$|[\ufdd0-\ufdef\ufffe\uffff]/u.test(name) ||
    [...name].some((each) => (each.codePointAt(0)! & 0xfffe) === 0xfffe)
  )
    return false;
  if (/^edgelabel\/gate-1\/(label(\/|$)|reply\/)/s.test(name)) return true;
  if (/^answers\/private(\/|$)/s.test(name)) return false;
  // One level below sms is what the route hears.
  return /^answers(\/|$)/s.test(name) || /^site\/[^/]*\/out$/s.test(name) || /^sms(\/[^/]*\/.*)?$/s.test(name);
}

describeMosquitto("answers to generated topics", (binaries) => {
  test.each([
    [5, "its response topic"],
    [5, "replyTo"],
    [4, "replyTo"],
  ] as const)(
    `MQTT %s, in %s: ${COUNT} topics, seed ${SEED}`,
    async (protocol, way) => {
      const broker = await startMosquitto(binaries);
      const service = fakeService({
        access: { url: broker.url, protocol },
        limits: { ...limits, queuedAnswers: 1000, answerBytes: 1_000 },
        responses: { allow: ["answers/#", "site/+/out", "sms/#"], deny: ["answers/private/#"] },
        routes: [
          {
            name: "sms",
            filter: "sms/+",
            text: [],
            model: "",
            threshold: 0,
            outputs: [{ topic: "labelled", when: "any", onChange: false, qos: 0, retain: false }],
          },
        ],
      });
      await service.start();
      const observer = await TestClient.connect(broker.url, 5);
      await observer.subscribe("#", "$SYS/broker/version", "$answers/#", "$queue/#");
      const requester = await TestClient.connect(broker.url, 5);
      const next = new Seeded(SEED);
      const wanted: string[] = [];
      const publish = (name: string) => {
        const payload = JSON.stringify({
          text: "win",
          id: wanted.push(name) - 1,
          ...(way === "replyTo" ? { replyTo: name } : {}),
        });
        void requester.publish(topics.classify, payload, {
          qos: 1,
          ...(way === "replyTo" ? {} : { properties: { responseTopic: name } }),
        });
      };
      for (let i = 0; i < COUNT;) {
        for (let batch = 0; batch < 50 && i < COUNT; i++, batch++) {
          let name = topic(next);
          // The broker itself turns those out who send such a property.
          while (
            way !== "replyTo" &&
            (name === "" ||
              /[+#]/.test(name) ||
              /[\p{Cc}\p{Cs}\p{Noncharacter_Code_Point}]/u.test(name) ||
              Buffer.byteLength(name) > 65_535)
          )
            name = topic(next);
          publish(name);
        }
        // Handled in their order, so the last one's answer says that all were looked at.
        publish("answers/end");
        const id = wanted.length - 1;
        await until(() => observer.received.some(({ topic: at, json }) => at === "answers/end" && json?.id === id));
      }
      const retained = (at: string) => at === topics.status || at === topics.info;
      const others = observer.received.filter(
        ({ topic: at }) => at !== topics.classify && !retained(at) && at !== "$SYS/broker/version",
      );
      const isRefusal = ({ topic: at, json }: Received) => at === topics.label && json?.error !== undefined;
      const [refusals, answers] = [others.filter(isRefusal), others.filter((each) => !isRefusal(each))];
      expect(
        answers
          .filter(({ topic: at, json }) => !isAllowed(at) || wanted[json?.id] !== at)
          .map(({ topic: at, text }) => [at, text]),
      ).toEqual([]);
      const expected = wanted.flatMap((name, id) => (isAllowed(name) ? [id] : []));
      expect(answers.map(({ json }) => json.id as number).sort((a, b) => a - b)).toEqual(expected);
      expect(
        observer.received
          .filter(({ topic: at }) => retained(at))
          .map(({ topic: at }) => at)
          .filter((at, i, all) => all.indexOf(at) !== i),
      ).toEqual([]);
      const counts = new Map<string, number>();
      for (const { json } of refusals) {
        const [, reason = ""] = /may not be used \((\w+)\)/.exec(json.error.message) ?? [];
        counts.set(reason, (counts.get(reason) ?? 0) + 1);
      }
      expect(refusals.map(({ json }) => json.id as number)).toEqual(
        wanted.flatMap((name, id) => (isAllowed(name) ? [] : [id])),
      );
      console.log(
        `${expected.length - COUNT / 50} allowed and answered; refused: ${[...counts].map(([reason, value]) => `${reason} ${value}`).join(", ")}`,
      );
      expect(expected.length - COUNT / 50).toBeGreaterThan(COUNT / 20);
      expect(counts.size).toBeGreaterThanOrEqual(way === "replyTo" ? 8 : 5);
      // Never reconnected, never out of breath.
      expect((await service.metrics.connects.get()).values.map(({ value }) => value)).toEqual([1]);
      expect(service.isReady).toBe(true);
      await Promise.all([observer.close(), requester.close()]);
      await service.stop();
      await broker.kill();
    },
    300_000,
  );

  test("a response topic that MQTT forbids costs the requester its connection, not the service", async () => {
    const broker = await startMosquitto(binaries);
    const service = fakeService({ access: { url: broker.url } });
    await service.start();
    const observer = await TestClient.connect(broker.url, 5);
    await observer.subscribe("#");
    for (const responseTopic of ["a/#", "+", "a\0b", "a/+/b", "\ud800", ""]) {
      const client = await mqtt.connectAsync(broker.url, { protocolVersion: 5, reconnectPeriod: 0 });
      client.on("error", () => {});
      client.publish(topics.classify, JSON.stringify({ text: "win", id: responseTopic }), {
        qos: 0,
        properties: { responseTopic },
      });
      await pause(30);
      client.end(true);
    }
    await observer.publish(topics.classify, JSON.stringify({ text: "win", id: "next" }));
    await observer.next(({ topic: at, json }) => at === topics.label && json.id === "next");
    expect(
      observer.received
        .filter(
          ({ topic: at, json }) => ![topics.status, topics.info, topics.classify].includes(at) && json?.id !== "next",
        )
        .map(({ topic: at }) => at)
        .filter((at) => at !== topics.label && !at.includes("\ufffd")),
    ).toEqual([]);
    expect((await service.metrics.connects.get()).values.map(({ value }) => value)).toEqual([1]);
    await observer.close();
    await service.stop();
    await broker.kill();
  });
});
