// Explanations in the service's queue: each forward pass is a turn, a model explains one text at
// a time, and a flood of them holds nobody up. Turns are counted, not timed.
import { beforeAll, describe, expect, test } from "vitest";
import { MAX_PIECES } from "../../assembly/abi.ts";
import { type ModelFile, openModelBytes } from "../../host/model/file.ts";
import { Metrics } from "../../host/service/metrics.ts";
import { Predictor, type Model, type Outcome, type Work } from "../../host/service/answer/predictor.ts";
import { trainTiny } from "../support/models.ts";
import { fakeModel } from "../support/fake.ts";
import { until } from "../support/wait.ts";

/** A model that notes what it does: "c" a classification, "p" a forward pass of an explanation. */
function noting(log: string[]): Model {
  const model = fakeModel();
  return {
    ...model,
    classify(text, top) {
      log.push(`c ${text}`);
      return model.classify(text, top);
    },
    *explaining(text) {
      for (const _ of model.explaining(text)) {
        log.push(`p ${text}`);
        yield;
      }
      return { label: "ham", score: 1, base: 0, method: "occlusion", sum: 1, error: 0, tokens: [] };
    },
  };
}

function setUp(models: Record<string, Model>, texts = 10_000) {
  const predictor = new Predictor(
    new Map(Object.entries(models)),
    { texts, bytes: 1_000_000, requesters: 1000 },
    new Metrics(),
  );
  const ends: string[] = [];
  const submit = (requester: string, text: string, more: Partial<Work> = {}): Promise<Outcome | undefined> =>
    predictor.predict({ requester, model: "", texts: [text], bytes: text.length, ...more }).then(
      (outcome) => {
        ends.push(text);
        return outcome;
      },
      (error) => {
        ends.push(`${text}: ${error.code}`);
        return undefined;
      },
    );
  return { predictor, submit, ends };
}

test("a text of another requester waits for one pass, not for the explanation", async () => {
  const log: string[] = [];
  const { submit, ends } = setUp({ spam: noting(log) });
  await Promise.all([submit("a", "aaaa", { explain: true }), submit("b", "x1"), submit("b", "x2"), submit("b", "x3")]);
  expect(log).toEqual(["c aaaa", "c x1", "p aaaa", "c x2", "p aaaa", "c x3", "p aaaa", "p aaaa"]);
  expect(ends).toEqual(["x1", "x2", "x3", "aaaa"]);
});

test("of many who ask for explanations one is served at a time, and between two plain texts there is one pass", async () => {
  const log: string[] = [];
  const { submit, ends } = setUp({ spam: noting(log) });
  const flood = Array.from({ length: 30 }, (_, i) => submit(`flood ${i}`, `text ${i}`, { explain: true }));
  const plain = Array.from({ length: 20 }, (_, i) => submit("calm", `calm ${i}`));
  await Promise.all([...flood, ...plain]);
  const between: number[] = [];
  let passes = 0;
  for (const line of log) {
    if (line.startsWith("p")) passes++;
    if (line.startsWith("c calm")) {
      between.push(passes);
      passes = 0;
    }
  }
  expect(between).toHaveLength(20);
  expect(Math.max(...between)).toBeLessThanOrEqual(1);
  // No two explanations are mixed, and all come.
  expect(
    log
      .filter((line) => !line.includes("calm"))
      .map((line) => line.slice(2))
      .filter((text, i, all) => text !== all[i - 1]),
  ).toHaveLength(30);
  expect(ends.filter((text) => text.startsWith("text"))).toHaveLength(30);
});

test("two models explain side by side", async () => {
  const log: string[] = [];
  const { submit } = setUp({ one: noting(log), two: noting(log) });
  await Promise.all([submit("a", "aa", { explain: true }), submit("b", "bb", { explain: true, model: "two" })]);
  expect(log).toEqual(["c aa", "c bb", "p aa", "p bb", "p aa", "p bb"]);
});

test("an explanation counts as all its passes: who floods with them is told busy, and plain texts get in", async () => {
  const { submit, ends, predictor } = setUp({ spam: noting([]) }, 50);
  const jobs = [submit("flood", "ten bytes!", { explain: true }), submit("flood", "ten bytes?", { explain: true })];
  expect(predictor.queue.length).toBe(42);
  jobs.push(
    submit("flood", "ten more..", { explain: true }),
    ...Array.from({ length: 20 }, (_, i) => submit("calm", `calm ${i}`)),
  );
  await Promise.all(jobs);
  expect(ends.filter((end) => end.endsWith("busy")).sort()).toEqual(["ten bytes?: busy", "ten more..: busy"]);
  expect(ends.filter((end) => end.startsWith("calm"))).toHaveLength(20);
  // A text that waits is not sent away for an explanation, however much its requester had of late.
  await Promise.all(Array.from({ length: 40 }, (_, i) => submit("calm", `before ${i}`)));
  const held = [
    submit("first", "ten bytes!", { explain: true }),
    submit("second", "ten bytes.", { explain: true }),
    submit("calm", "after"),
    submit("third", "ten bytes;", { explain: true }),
  ];
  await Promise.all(held);
  expect(ends.slice(-4)).toEqual(["ten bytes;: busy", "after", "ten bytes!", "ten bytes."]);
  const long = submit("flood", "x".repeat(5000), { explain: true });
  expect(predictor.queue.length).toBe(1 + 2 * MAX_PIECES);
  await long;
});

test("an explanation that expires, is refused or fails makes room for the next one", async () => {
  const model = noting([]);
  const explaining = model.explaining.bind(model);
  const odd: Model = {
    ...model,
    explaining(text) {
      if (text === "fails")
        return (function* (): Generator<undefined, never> {
          yield;
          throw new Error("trap");
        })();
      if (text === "endless")
        return (function* (): Generator<undefined, never> {
          for (; ; turns++) yield;
        })();
      return explaining(text);
    },
  };
  const { submit, ends } = setUp({ spam: odd }, 40);
  let turns = 0;
  await submit("a", "fails", { explain: true });
  await submit("a", "endless", { explain: true, expiresAt: performance.now() + 30 });
  const endless = submit("a", "endless", { explain: true });
  const before = turns;
  await until(() => turns > before);
  await Promise.all([endless, ...Array.from({ length: 30 }, (_, i) => submit(`plain ${i}`, "x", {}))]);
  await submit("a", "good", { explain: true });
  expect(ends.filter((end) => end !== "x")).toEqual(["fails: internal", "endless: expired", "endless: busy", "good"]);
});

describe("a real model", () => {
  let classifier: ModelFile;
  beforeAll(async () => {
    classifier = await openModelBytes((await trainTiny()).write("int8"), "tiny");
  });

  test("whatever is classified between the passes, the explanation is the one that explain() gives", async () => {
    const { submit } = setUp({ tiny: classifier });
    const texts = ["please play some jazz in the bedroom", "will it rain?", "lights off please", ""];
    const outcomes = await Promise.all([
      ...texts.map((text, i) => submit(`a${i}`, text, { explain: true })),
      ...texts.flatMap((text) => Array.from({ length: 30 }, (_, i) => submit(`b${i}`, `${text} ${i}`))),
    ]);
    texts.forEach((text, i) => {
      const [answer] = outcomes[i]!.predictions;
      expect(answer!.explanation).toEqual(classifier.explain(text));
      expect(answer).toMatchObject(classifier.classify(text));
    });
  });
});
