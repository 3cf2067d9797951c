// Answers kept back: thresholds, counts, areas under curves. The twin asks the engine for each
// text's scores and does the rest in plain loops: every threshold, every pair.
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { Classifier } from "../../../../host/model/classifier.ts";
import { Calibrator, type AnswerCounts, type RejectionRule } from "../../../../host/training/calibrator.ts";
import { Seeded, loadFile, samples, scoresOf, trainTiny } from "../../../support/models.ts";
import { loadWasm, put, f32 } from "../../../support/wasm.ts";

const LABELS = ["light", "music", "weather"];
const OUTSIDE = [
  "order a pizza",
  "what is two plus two",
  "xyzzy plugh",
  "good morning",
  "set an alarm for seven",
  "play",
  "is it",
];

interface Answer {
  kind: keyof AnswerCounts;
  score: number;
  margin: number;
  unknown_share: number;
}

let file: Uint8Array;
let texts: { label: number; text: string }[];
let answers: Answer[];

beforeAll(async () => {
  file = (await trainTiny({ epochs: 12 })).write("int8");
  const random = new Seeded(2);
  // Halves of the training texts, some under a wrong label, and texts of no label. Some come twice: equal scores.
  texts = samples.flatMap(({ label, text }) => {
    const words = text.split(" ");
    const truth = random.below(10) === 0 ? random.below(3) : LABELS.indexOf(label);
    return [text, words.slice(0, 2).join(" "), words.slice(2).join(" "), words.slice(0, 2).join(" ")].map((part) => ({
      label: truth,
      text: part,
    }));
  });
  texts.push(...OUTSIDE.map((text) => ({ label: 3, text })));
  const wasm = loadWasm("testing");
  expect(loadFile(wasm, file)).toBe(0);
  answers = texts.map(({ label, text }) => {
    const scores = scoresOf(wasm, text);
    const [best, second] = [...scores].sort((a, b) => b - a) as [number, number];
    return {
      kind: label === 3 ? "unknown" : scores.indexOf(best) === label ? "right" : "wrong",
      score: best,
      margin: Math.fround(best - second),
      unknown_share: wasm["tokenCount"]() ? Math.fround(wasm["unknownCount"]() / wasm["tokenCount"]()) : 0,
    };
  });
});

async function collected(chosen = texts): Promise<Calibrator> {
  const calibrator = await Calibrator.open(file, "tiny");
  calibrator.startAnswers();
  for (const { label, text } of chosen) calibrator.addAnswer(label, text);
  return calibrator;
}

const KINDS = ["right", "wrong", "unknown"] as const;
const rejects = (rule: RejectionRule, answer: Answer): boolean =>
  answer.score < rule.score || answer.margin < rule.margin || answer.unknown_share > rule.unknown_share;
const count = (of: (answer: Answer) => boolean): AnswerCounts =>
  Object.fromEntries(
    KINDS.map((kind) => [kind, answers.filter((answer) => answer.kind === kind && of(answer)).length]),
  ) as AnswerCounts;

test("answers and rejected ones are counted by kind", async () => {
  const calibrator = await collected();
  expect(calibrator.answers()).toEqual(count(() => true));
  for (const kind of KINDS) expect(calibrator.answers()[kind]).toBeGreaterThan(3);
  for (const rule of [
    { score: 0.75, margin: 0, unknown_share: 1 },
    { score: 0, margin: 0.5, unknown_share: 1 },
    { score: 0, margin: 0, unknown_share: 0.25 },
    { score: 0.5, margin: 0.25, unknown_share: 0.5 },
  ]) {
    expect(calibrator.rejected(rule)).toEqual(count((answer) => rejects(rule, answer)));
  }
});

describe("the rule for unknown texts", () => {
  /** Every set of criteria, every number of right answers that each of them loses. */
  function best(share: number): { rejected: number; lost: number } {
    const right = answers.filter(({ kind }) => kind === "right");
    const most = Math.floor(share * right.length);
    let found = { rejected: -1, lost: 0 };
    for (const set of [
      ["score"],
      ["margin"],
      ["unknown_share"],
      ["score", "margin"],
      ["score", "unknown_share"],
      ["margin", "unknown_share"],
      ["score", "margin", "unknown_share"],
    ]) {
      let strictest = found;
      for (let lost = 0; lost <= most; lost++) {
        const rule: RejectionRule = { score: 0, margin: 0, unknown_share: 1 };
        if (set.includes("score")) rule.score = right.map(({ score }) => score).sort((a, b) => a - b)[lost]!;
        if (set.includes("margin")) rule.margin = right.map(({ margin }) => margin).sort((a, b) => a - b)[lost]!;
        if (set.includes("unknown_share"))
          rule.unknown_share = right.map(({ unknown_share }) => unknown_share).sort((a, b) => b - a)[lost]!;
        const by = count((answer) => rejects(rule, answer));
        if (by.right > most) break;
        strictest = { rejected: by.wrong + by.unknown, lost: by.right };
      }
      if (strictest.rejected > found.rejected) found = strictest;
    }
    return found;
  }

  test.each([0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.9])(
    "rejects most others at the cost of %d of the right answers, as the file then does",
    async (share) => {
      const calibrator = await collected();
      const rule = calibrator.fitRejection(share);
      const rejected = calibrator.rejected(rule);
      const expected = best(share);
      expect({ rejected: rejected.wrong + rejected.unknown, lost: rejected.right }).toEqual(expected);
      expect(rejected.right).toBeLessThanOrEqual(share * calibrator.answers().right);
      calibrator.change(1, rule);
      const classifier = await Classifier.fromBytes(calibrator.file(), "tiny");
      const kept = texts.map(({ text }) => classifier.classify(text).label !== null);
      expect(
        Object.fromEntries(
          KINDS.map((kind) => [kind, answers.filter((answer, i) => answer.kind === kind && !kept[i]).length]),
        ),
      ).toEqual(rejected);
    },
  );

  test("needs a right answer, and a share below 1", async () => {
    const calibrator = await collected(texts.filter(({ label }) => label === 3));
    expect(() => calibrator.fitRejection(0.1)).toThrow("no text was answered right");
    expect(() => calibrator.fitRejection(1)).toThrow("outside its range");
    expect(() => calibrator.fitRejection(NaN)).toThrow("outside its range");
  });
});

describe("scores as a measure of certainty", () => {
  test("the score that leaves a coverage", async () => {
    const calibrator = await collected();
    for (const share of [0, 0.01, 0.1, 0.5, 0.9, 0.999, 1]) {
      const reaching = (score: number): number => answers.filter((answer) => answer.score >= score).length;
      const wanted = Math.max(1, Math.ceil(share * answers.length));
      const expected = Math.max(...answers.map(({ score }) => score).filter((score) => reaching(score) >= wanted));
      expect(calibrator.scoreAtCoverage(share)).toBe(expected);
    }
  });

  test("the area under the risk-coverage curve, ties taken together", async () => {
    const risks = answers.map(({ score }) => {
      const kept = answers.filter((answer) => answer.score >= score);
      return kept.filter(({ kind }) => kind !== "right").length / kept.length;
    });
    expect((await collected()).riskCoverageArea()).toBeCloseTo(
      risks.reduce((sum, risk) => sum + risk, 0) / risks.length,
      12,
    );
  });

  test("the chance that a known text scores more than an unknown one", async () => {
    let wins = 0;
    const known = answers.filter(({ kind }) => kind !== "unknown");
    const unknown = answers.filter(({ kind }) => kind === "unknown");
    for (const a of known) for (const b of unknown) wins += a.score > b.score ? 1 : a.score === b.score ? 0.5 : 0;
    expect((await collected()).unknownRanking()).toBeCloseTo(wins / (known.length * unknown.length), 12);
    expect((await collected(texts.filter(({ label }) => label === 3))).unknownRanking()).toBeNull();
    expect((await collected(texts.filter(({ label }) => label < 3))).unknownRanking()).toBeNull();
  });

  test("nothing collected", async () => {
    const calibrator = await collected([]);
    expect([
      calibrator.answers(),
      calibrator.scoreAtCoverage(0.5),
      calibrator.riskCoverageArea(),
      calibrator.unknownRanking(),
    ]).toEqual([{ right: 0, wrong: 0, unknown: 0 }, 0, 0, null]);
  });
});

test("the sort sorts", () => {
  const wasm = loadWasm("testing");
  const base: number = wasm["arenaTop"]();
  fc.assert(
    fc.property(fc.array(fc.float({ noNaN: true }), { maxLength: 200 }), (list) => {
      const values = Float32Array.from(list);
      const address = put(wasm, values);
      wasm["heapSort"](address, values.length);
      // -0 and 0 are equal, and stand in any order.
      expect([...f32(wasm, address, values.length)].map((value) => value + 0)).toEqual(
        [...values.toSorted((a, b) => a - b)].map((value) => value + 0),
      );
      wasm["arenaRelease"](base);
    }),
    { numRuns: 500 },
  );
});
