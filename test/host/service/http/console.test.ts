// What the console's page asks over HTTP: who may give which command and see which texts, how labels become
// corrections, and that pages of other sites can do none of it.
import { afterEach, describe, expect, test } from "vitest";
import { startBroker } from "../../../../host/service/broker/broker.ts";
import { Review } from "../../../../host/service/control/review.ts";
import type { Learner } from "../../../../host/service/control/learning.ts";
import { startHttp } from "../../../../host/service/http/http.ts";
import { hashPassword, type UserSettings } from "../../../../host/service/users.ts";
import type { Correction } from "../../../../host/data/journal.ts";
import { EdgelabelError } from "../../../../host/errors.ts";
import { TestClient, fakeModel, fakeService, loginOf, recordingLog, topics } from "../../../support/fake.ts";
import { until } from "../../../support/wait.ts";

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

const PASSWORD = "a long password";
const hash = await hashPassword(PASSWORD);

interface Options {
  users?: Record<string, Omit<UserSettings, "password">>;
  isOpen?: boolean;
  hasReview?: boolean;
  hasLearner?: boolean;
  commands?: boolean;
}

async function start({
  users,
  isOpen = users === undefined,
  hasReview = true,
  hasLearner = true,
  commands = true,
}: Options = {}) {
  // prettier-ignore
  const broker = await startBroker({ port: 0 });
  const log = recordingLog();
  ends.push(() => broker.close());
  const doubtful = {
    ...fakeModel(),
    classify: (text: string | Uint8Array) => ({ ...fakeModel().classify(text), score: 0.6 }),
  };
  const service = fakeService({ access: broker.access, models: new Map([["spam", doubtful]]), commands, log });
  const review = new Review({ texts: 50, hours: 1 });
  if (hasReview) service.predictor.reviewer = (...given) => review.offer(...given);
  const kept: Correction[] = [];
  /** Keeping takes until this resolves. */
  const held = { keep: Promise.resolve() };
  const learner = {
    takesNewLabels: false,
    keep: async (corrections: readonly Correction[], labels: readonly string[]) => {
      if (corrections.some(({ label }) => !labels.includes(label)))
        throw new EdgelabelError("the model does not know it");
      await held.keep;
      kept.push(...corrections);
    },
  } as unknown as Learner;
  const given: unknown[] = [];
  for (const verb of ["learn", "activate", "rollback", "evaluate", "load"])
    service.commands?.add(verb, async ({ args, report }) => {
      given.push([verb, args]);
      report({ epoch: 1 });
      if (verb === "rollback") throw new EdgelabelError("there is no version before");
      return { accepted: true };
    });
  await service.start();
  const login = users && loginOf(users, hash);
  const http = await startHttp(service, {
    ...{ host: "127.0.0.1", port: 0, bodyBytes: 10_000, textsPerRequest: 100, login },
    console: {
      learners: new Map(hasLearner ? [["spam", learner]] : []),
      review: hasReview ? review : undefined,
      isOpen,
    },
  });
  ends.push(
    () => (review.close(), service.stop()),
    () => http.close(),
  );
  const ask = async (
    path: string,
    body?: unknown,
    { as, ...headers }: { as?: string; [name: string]: string | undefined } = {},
  ) => {
    // prettier-ignore
    const response = await fetch(http.url + path, {
      method: body === undefined ? "GET" : "POST",
      headers: {
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...(as === undefined ? {} : { Authorization: `Basic ${btoa(`${as}:${PASSWORD}`)}` }),
        ...(headers as Record<string, string>),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    const json = response.headers.get("content-type") === "application/json" ? JSON.parse(text) : undefined;
    return { status: response.status, json, text, headers: response.headers };
  };
  return { ask, kept, held, given, broker, review, lines: log.lines };
}

const info = `${topics.root}/${topics.node}/info`;
const command = (verb: string): string => `${topics.command}/${verb}/+`;

describe("commands", () => {
  test("are given, seen while they run and when they end, over HTTP and over MQTT", async () => {
    const { ask, broker, given } = await start();
    const client = await TestClient.connect(broker.url, 5);
    ends.push(() => client.close());
    await client.subscribe(`${topics.command}/#`);
    const { status, json } = await ask("/commands/activate", { name: "spam", version: "2" });
    expect([status, json]).toEqual([202, { id: expect.stringMatching(/^[\w-]+$/) }]);
    await until(async () => (await ask("/commands")).json.commands.at(-1)?.status === "successful");
    expect(given).toEqual([["activate", { name: "spam", version: "2" }]]);
    expect((await ask("/commands")).json.commands).toEqual([
      { verb: "activate", id: json.id, status: "successful", accepted: true },
    ]);
    await client.next(
      ({ topic, json: got }) => topic === `${topics.command}/activate/${json.id}` && got.status === "successful",
    );
    await ask("/commands/rollback", { name: "spam" });
    await until(async () => (await ask("/commands")).json.commands.at(-1)?.status === "failed");
    expect((await ask("/commands")).json.commands.at(-1).reason).toBe("there is no version before");
  });

  test("that need parts, or that there are not: 404; no object: 400", async () => {
    const { ask, given } = await start();
    for (const verb of ["load", "list", "nonsense"]) expect((await ask(`/commands/${verb}`, {})).status).toBe(404);
    for (const body of [[], null, 7, "x"]) expect((await ask("/commands/learn", body)).status).toBe(400);
    expect(given).toEqual([]);
  });

  test("commands off: 403, and the page is told", async () => {
    const { ask } = await start({ commands: false });
    const { status, json } = await ask("/commands/learn", {});
    expect([status, json.error.message]).toEqual([
      403,
      'commands are off: set "commands" to true in the configuration file',
    ]);
    expect((await ask("/info")).json.may.commands).toEqual([]);
  });

  test("without users where the broker has a login: 403", async () => {
    const { ask } = await start({ isOpen: false });
    const { status, json } = await ask("/commands/learn", {});
    expect([status, json.error.message]).toEqual([403, 'commands over HTTP need a login: give "users" in the configuration file']); // prettier-ignore
    expect((await ask("/review/spam")).status).toBe(403);
    expect((await ask("/info")).json.may).toEqual({ commands: [], review: false });
  });
});

describe("rights: each is asked for by itself", () => {
  const users = {
    all: { publish: ["#"], subscribe: ["#"] },
    teacher: { publish: [command("learn")], subscribe: [info] },
    switcher: { publish: [command("activate"), command("rollback")], subscribe: [info] },
    asker: { publish: [topics.classify], subscribe: [info] },
    blind: { publish: [command("learn")], subscribe: [] },
  };

  test.each([
    ["all", ["activate", "rollback", "evaluate", "learn"], true],
    ["teacher", ["learn"], true],
    ["switcher", ["activate", "rollback"], false],
    ["asker", [], false],
  ])("%s", async (as, verbs, mayReview) => {
    const { ask } = await start({ users });
    expect((await ask("/info", undefined, { as })).json.may).toEqual({ commands: verbs, review: mayReview });
    for (const verb of ["activate", "rollback", "evaluate", "learn"])
      expect((await ask(`/commands/${verb}`, {}, { as })).status).toBe(verbs.includes(verb) ? 202 : 403);
    await until(async () => (await ask("/commands", undefined, { as: "all" })).json.commands.length >= verbs.length);
    const shown = (await ask("/commands", undefined, { as })).json.commands;
    expect(new Set(shown.map(({ verb }: { verb: string }) => verb))).toEqual(new Set(verbs));
    expect((await ask("/review/spam", undefined, { as })).status).toBe(mayReview ? 200 : 403);
    expect((await ask("/review/spam", { undo: true }, { as })).status).toBe(mayReview ? 400 : 403);
    expect((await ask("/review/spam/labels.jsonl", undefined, { as })).status).toBe(mayReview ? 200 : 403);
  });

  test("who may not read what the node says of itself sees neither texts nor commands; nobody does without a login", async () => {
    const { ask } = await start({ users });
    for (const path of ["/info", "/commands", "/review/spam", "/review/spam/labels.jsonl"]) {
      expect((await ask(path, undefined, { as: "blind" })).status).toBe(403);
      expect((await ask(path)).status).toBe(401);
    }
    for (const path of ["/commands/learn", "/review/spam"]) expect((await ask(path, {})).status).toBe(401);
  });
});

test("pages of other sites can neither give commands nor label", async () => {
  const { ask, given } = await start();
  for (const headers of [
    { Origin: "https://example.org" },
    { "Sec-Fetch-Site": "cross-site" },
    { "Content-Type": "text/plain" },
  ])
    // prettier-ignore
    for (const path of ["/commands/learn", "/review/spam"])
      expect((await ask(path, { undo: true }, headers)).status).toBeOneOf([403, 415]);
  expect(given).toEqual([]);
});

describe("review", () => {
  test("doubtful texts of HTTP and MQTT are asked for, labelled, taken back, exported and learnt", async () => {
    const { ask, broker, kept, given } = await start();
    const client = await TestClient.connect(broker.url, 5);
    ends.push(() => client.close());
    await client.publish(topics.classify, "win a boat over mqtt");
    await ask("/predict", { texts: ["is it cheap", "is it CHEAP?"] });
    await until(async () => (await ask("/review/spam")).json.waiting === 2);
    const first = (await ask("/review/spam")).json;
    expect(first).toMatchObject({
      model: "spam",
      labels: ["ham", "spam"],
      newLabels: false,
      canLearn: true,
      labelled: 0,
    });
    const boat = first.texts.find(({ label }: { label: string }) => label === "spam");
    expect(boat).toMatchObject({ text: "win a boat over mqtt", score: 0.6, why: "uncertain" });
    expect((await ask("/review/spam", { id: boat.id, label: "ham" })).json).toMatchObject({ waiting: 1, labelled: 1 });
    expect((await ask("/review/spam", { undo: true })).json).toMatchObject({ waiting: 2, labelled: 0 });
    await ask("/review/spam", { id: boat.id, label: "ham" });
    const left = (await ask("/review/spam")).json.texts[0];
    expect((await ask("/review/spam", { id: left.id, skip: true })).json).toMatchObject({ waiting: 0, labelled: 1 });
    const exported = await ask("/review/spam/labels.jsonl");
    expect([exported.text, exported.headers.get("content-disposition")]).toEqual([
      '{"text":"win a boat over mqtt","label":"ham"}\n',
      'attachment; filename="spam.corrections.jsonl"',
    ]);
    const { json } = await ask("/review/spam", { learn: true });
    await until(async () => (await ask("/commands")).json.commands.at(-1)?.status === "successful");
    expect((await ask("/commands")).json.commands.at(-1)).toMatchObject({ verb: "learn", id: json.id, accepted: true });
    expect([kept, given]).toEqual([[{ text: "win a boat over mqtt", label: "ham" }], [["learn", { model: "spam" }]]]);
    expect((await ask("/review/spam")).json.labelled).toBe(0);
  });

  test("nothing of a text is logged or counted", async () => {
    const { ask, lines } = await start();
    await ask("/predict", { text: "quite a secret matter" });
    const [{ id }] = (await ask("/review/spam")).json.texts;
    await ask("/review/spam", { id, label: "a secret label" });
    await ask("/review/spam", { id, label: "ham" });
    await ask("/review/spam", { learn: true });
    expect((await ask("/metrics")).text).not.toMatch(/secret/);
    expect(lines.join("\n")).not.toMatch(/secret/);
  });

  test("a second press of the button learns nothing twice, and loses no label that came in between", async () => {
    const { ask, kept, held } = await start();
    await ask("/predict", { texts: ["is it cheap", "who is calling"] });
    const [first, second] = (await ask("/review/spam")).json.texts;
    await ask("/review/spam", { id: first.id, label: "ham" });
    let release = (): void => {};
    held.keep = new Promise((resolve) => (release = resolve));
    const presses = [ask("/review/spam", { learn: true }), ask("/review/spam", { learn: true })];
    await ask("/review/spam", { id: second.id, label: "spam" });
    release();
    await Promise.all(presses);
    const waiting = (await ask("/review/spam/labels.jsonl")).text;
    expect([
      ...kept,
      ...waiting
        .split("\n")
        .filter(Boolean)
        .map((line) => JSON.parse(line)),
    ]).toEqual([
      { text: first.text, label: "ham" },
      { text: second.text, label: "spam" },
    ]);
  });

  test("a label that cannot be learnt stays, and nothing is lost", async () => {
    const { ask, given } = await start();
    await ask("/predict", { text: "is it cheap" });
    const [{ id }] = (await ask("/review/spam")).json.texts;
    await ask("/review/spam", { id, label: "bargain" });
    const { status, json } = await ask("/review/spam", { learn: true });
    expect([status, json.error.message]).toEqual([400, "the model does not know it"]);
    expect((await ask("/review/spam")).json.labelled).toBe(1);
    expect(given).toEqual([]);
  });

  test("without learning, labels can be exported only; without review there are no texts", async () => {
    const unable = await start({ hasLearner: false });
    await unable.ask("/predict", { text: "is it cheap" });
    const [{ id }] = (await unable.ask("/review/spam")).json.texts;
    expect((await unable.ask("/review/spam", { id, label: "ham" })).json).toMatchObject({
      canLearn: false,
      labelled: 1,
    });
    expect((await unable.ask("/review/spam", { learn: true })).json.error.message).toContain('give "learning"');
    const off = await start({ hasReview: false });
    await off.ask("/predict", { text: "is it cheap" });
    const { status, json } = await off.ask("/review/spam");
    expect([status, json.error.message]).toEqual([
      404,
      'no texts are kept for review: set "review" in the configuration file',
    ]);
    expect(off.review.waiting).toBe(0);
  });

  test.each([{}, { id: 1 }, { id: "1", label: "ham" }, { id: 1, skip: false }, { undo: true, id: 1 }, [], "x"])(
    "the body %j: 400",
    async (body) => {
      const { ask } = await start();
      expect((await ask("/review/spam", body)).status).toBe(400);
    },
  );

  test("an unknown model: 404", async () => {
    const { ask } = await start();
    expect([(await ask("/review/nope")).status, (await ask("/review/a%20b")).status]).toEqual([404, 404]);
  });
});
