// Several labels a text, from texts to figures: train, its threshold, evaluation, cross-validation, int8, resumed runs,
// and what cannot be done with such a model.
import { expect, test } from "vitest";
import { Classifier } from "../../../host/model/classifier.ts";
import { crossValidate } from "../../../host/library/folds.ts";
import { train } from "../../../host/library/train.ts";
import { calibrate } from "../../../host/library/update.ts";
import { compare } from "../../../host/report/comparison.ts";
import { evaluate, renderEvaluation } from "../../../host/report/evaluation.ts";
import { renderCalibration } from "../../../host/training/calibration.ts";
import { Calibrator } from "../../../host/training/calibrator.ts";
import { targetsOf } from "../../../host/training/label-sets.ts";
import { startWorkers } from "../../../host/training/workers.ts";
import { Seeded, severalSamples, trainSeveral } from "../../support/models.ts";

/** Texts of words that say their labels, and of words that say nothing. */
const made = ((): { text: string; label: string; labels: string[] }[] => {
  const random = new Seeded(3);
  const words = { food: ["soup", "bread"], money: ["bank", "loan"], sport: ["ball", "team"] };
  return Array.from({ length: 260 }, () => {
    const labels = Object.keys(words).filter(() => random.below(5) < 2);
    const own = labels.map((label) => words[label as keyof typeof words][random.below(2)]!);
    const text = ["the", "many", "today", ...own, "very", "with"].sort(() => random.below(2) - 0.5).join(" ");
    return { text, labels, label: labels.join(" ") };
  });
})();
const SETTINGS = { epochs: 12, units: 8, embeddingDim: 8, ngramBuckets: 64 };

test("training keeps texts aside for the threshold, and the model gives each text its labels", async () => {
  const notes: string[] = [];
  const trained = await train(made, { ...SETTINGS, onNote: (note) => notes.push(note) }, startWorkers);
  expect(notes.join()).toContain("kept aside");
  const { calibration } = await trained.deployed();
  expect(calibration?.reject.score).toBeGreaterThan(0.05);
  expect(renderCalibration(calibration!)).toContain("largest micro F1");
  const model = await trained.model();
  expect(model.info.multi_label).toBe(true);
  expect(model.info.reject.score).toBeCloseTo(calibration!.reject.score, 6);
  const figures = await trained.evaluate(made);
  expect(figures.micro_f1).toBeGreaterThan(0.95);
  expect(renderEvaluation(figures)).toMatch(/exact match[^]*micro/);
  const both = model.classify("the ball with bread", { topK: 2 });
  expect(both.labels!.map(({ label }) => label).sort()).toEqual(["food", "sport"]);
  expect(both.label).toBe(both.labels![0]!.label);
  expect(model.classify("the many very today")).toMatchObject({ label: null, unknown: true, labels: [] });
  expect(model.classify("the ball with bread", { threshold: 1 })).toMatchObject({ label: null, labels: [] });
  const folds = await crossValidate(made.slice(0, 150), { ...SETTINGS, folds: 2 }, startWorkers);
  expect(folds.accuracy).toBeGreaterThan(0.6);
});

test("a run that is stopped and resumed gives the same bits", async () => {
  const texts = made.slice(0, 60);
  const whole = await train(texts, { ...SETTINGS, epochs: 2 }, startWorkers);
  const half = await train(texts, { ...SETTINGS, epochs: 2, onEpoch: () => false }, startWorkers);
  const rest = await train(texts, { resume: await half.elb() }, startWorkers);
  expect(await rest.elb()).toEqual(await whole.elb());
  // The same sets under other numbers are other data.
  const others = texts.map(({ text, labels }) => ({ text, labels: labels.map((label) => (label === "food" ? "money" : label === "money" ? "food" : label)) })); // prettier-ignore
  await expect(train(others, { resume: await half.elb() }, startWorkers)).rejects.toThrow("cannot be resumed");
});

test("the threshold is the one with the largest micro F1", async () => {
  const file = (await trainSeveral({ linear: true })).write("int8");
  const calibrator = await Calibrator.open(file, "several");
  calibrator.change(1, { score: 0, margin: 0, unknown_share: 1 });
  const labels = calibrator.labels();
  calibrator.startAnswers();
  const targetOf = targetsOf(labels, calibrator.sets);
  // Halves of the texts are doubtful.
  const texts = severalSamples.map((sample) => ({ ...sample, text: sample.text.split(" ").slice(0, 3).join(" ") }));
  for (const sample of texts) calibrator.addAnswer(targetOf(sample)!, sample.text);
  const { score } = calibrator.fitThreshold();
  calibrator.change(1, { score: 0, margin: 0, unknown_share: 1 });
  const classifier = await Classifier.fromBytes(calibrator.file(), "several");
  const scored = texts.map(({ text, labels: truths }) => ({ scores: Object.entries(classifier.classify(text, 0).scores), truths })); // prettier-ignore
  const f1At = (threshold: number): number => {
    let [hits, given, support] = [0, 0, 0];
    for (const { scores, truths } of scored) {
      support += truths!.length;
      const labels = scores.filter(([, value]) => value >= threshold).map(([label]) => label);
      given += labels.length;
      hits += labels.filter((label) => truths!.includes(label)).length;
    }
    return (2 * hits) / (given + support);
  };
  const best = Array.from({ length: 1001 }, (_, i) => f1At(i / 1000)).reduce((one, other) => Math.max(one, other), 0);
  expect(best).toBeLessThan(1);
  expect(f1At(score)).toBeCloseTo(best, 9);
});

test("figures are scikit-learn's", () => {
  const given: Record<string, string[]> = { a: ["x"], b: ["x", "y"], c: [], d: ["z"], e: [] };
  const classifier = {
    labels: ["x", "y", "z"],
    classify: (text: string) => ({ label: given[text]![0] ?? null, score: 1, scores: {}, labels: given[text]!.map((label) => ({ label, score: 1 })) }), // prettier-ignore
  };
  const texts = [["a", ["x"]], ["b", ["x"]], ["c", ["y"]], ["d", ["y", "z"]], ["e", []]] as const; // prettier-ignore
  const samples = texts.map(([text, labels]) => ({ text, labels, label: labels.join() }));
  const figures = evaluate(classifier as never, samples);
  // f1_score(…, average=…) and accuracy_score of the indicator matrices.
  expect(figures).toMatchObject({ n: 5, accuracy: 0.4, coverage: 0.6, micro_precision: 3 / 4, micro_recall: 3 / 5 });
  expect(figures.micro_f1).toBeCloseTo(2 / 3, 12);
  expect(figures.macro_f1).toBeCloseTo(2 / 3, 12);
  expect(figures.per_class["y"]).toEqual({ precision: 0, recall: 0, f1: 0, support: 2 });
  const worse = { classify: () => ({ label: null, score: 0, scores: {}, labels: [] }) };
  expect(compare([["one", classifier as never], ["none", worse]], samples)).toMatchObject({ both: 1, difference: -0.2 }); // prettier-ignore
});

test("what needs one label a text says so", async () => {
  const elb = (await trainSeveral({ epochs: 1 })).write("training");
  const texts = severalSamples.map(({ text, labels = [] }) => ({ text, labels }));
  await expect(calibrate(elb, texts, { unknown: 0.1 })).rejects.toThrow("several labels");
  await expect(train(texts, { ...SETTINGS, classWeight: "balanced" }, startWorkers)).rejects.toThrow("several labels");
  await expect(train(texts, { ...SETTINGS, loss: "categorical_crossentropy" }, startWorkers)).rejects.toThrow("several labels"); // prettier-ignore
  const { report } = await calibrate(elb, texts);
  expect(report.multi_label).toBe(true);
});
