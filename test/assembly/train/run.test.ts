// Whole training runs through the trainer module: the same seed gives the same file, a run that
// was stopped and resumed the same file as one that was not, and what cannot go on is refused.
import { describe, expect, test } from "vitest";
import * as abi from "../../../assembly/abi.ts";
import { Classifier } from "../../../host/model/classifier.ts";
import type { Sample } from "../../../host/data/dataset.ts";
import {
  addSamples,
  DEFAULT_RECIPE,
  prepareTraining,
  runEpochs,
  type EpochReport,
  type RecipeOptions,
} from "../../../host/training/recipe.ts";
import { Trainer } from "../../../host/training/trainer.ts";
import { headerValue, partAt, read, repair, settingsFields, withParts, write } from "../../support/model-file.ts";
import { samples } from "../../support/models.ts";
import { ngramRows } from "./oracle.ts";

const LABELS = [...new Set(samples.map(({ label }) => label))];
const EPOCHS = 6;
const SETTINGS_BYTES = 128;
const STATE_BYTES = 64;

const PLAIN: RecipeOptions = {
  ...DEFAULT_RECIPE,
  name: "run",
  minCount: 1,
  embedding: 6,
  units: 5,
  epochs: EPOCHS,
  batch: 4,
  learningRate: 0.01,
  seed: 3,
  schedule: "constant",
  warmup: 0,
  embeddingDropout: 0,
  outputDropout: 0,
  wordDropout: 0,
  labelSmoothing: 0,
  augment: {},
  addNgrams: false,
  dropoutSamples: 1,
  perturbation: 0,
  averageDecay: 0,
  linear: false,
  tokenizer: { ...DEFAULT_RECIPE.tokenizer, sequenceLength: 10, ngramBuckets: 32 },
};
const SGD: Partial<RecipeOptions> = { optimizer: "sgd", momentum: 0.9, learningRate: 0.1, clipNorm: 0 };

const recipes: Record<string, Partial<RecipeOptions>> = {
  SGD: { ...SGD, momentum: 0, learningRate: 0.5 },
  "momentum, Nesterov": { ...SGD, nesterov: true },
  Adam: {},
  "Adam whose rows fade within an epoch": { beta1: 0.05, beta2: 0.5, batch: 1, learningRate: 0.002 },
  schedule: { schedule: "cosine", warmup: 0.2, finalRate: 0 },
  "schedule with a floor": { schedule: "linear", finalRate: 0.3 },
  dropout: { embeddingDropout: 0.3, outputDropout: 0.5 },
  "several dropout masks a sample": { outputDropout: 0.5, dropoutSamples: 4 },
  perturbation: { embeddingDropout: 0.3, perturbation: 0.07 },
  "perturbation of shared vectors": { perturbation: 0.07 },
  "word dropout": { wordDropout: 0.3, addNgrams: true },
  averaging: { averageDecay: 0.9 },
  "averaging with momentum": { ...SGD, averageDecay: 0.9 },
  augmentation: { augment: { delete: 0.1, swap: 0.1, typo: 0.2 } },
  "balanced classes": { balanced: true, weightDecay: 0.1 },
  "no mask, one direction, the last state": { mask: false, bidirectional: false, pooling: "last" },
  "a minGRU": { cell: "mingru", wordDropout: 0.3, embeddingDropout: 0.3, addNgrams: true, perturbation: 0.07 },
  "the default recipe": {
    embeddingDropout: 0.3,
    outputDropout: 0.5,
    wordDropout: 0.3,
    labelSmoothing: 0.1,
    addNgrams: true,
    schedule: "cosine",
    warmup: 0.1,
    augment: { typo: 0.15 },
    dropoutSamples: 4,
    perturbation: 0.07,
    averageDecay: 0.999,
    linear: true,
  },
};

async function begin(changes: Partial<RecipeOptions> = {}, data: readonly Sample[] = samples): Promise<Trainer> {
  const options = { ...PLAIN, ...changes };
  const trainer = await prepareTraining(data, [], options);
  trainer.start(options);
  return trainer;
}

function run(trainer: Trainer, most = Infinity): EpochReport[] {
  const reports: EpochReport[] = [];
  runEpochs(trainer, EPOCHS, false, { onEpoch: (report) => reports.push(report) }, most);
  return reports;
}

async function opened(file: Uint8Array): Promise<Trainer> {
  const trainer = await Trainer.open(file, "saved.elb");
  trainer.buildOpened();
  return trainer;
}

async function open(file: Uint8Array, data: readonly Sample[] = samples): Promise<Trainer> {
  const trainer = await Trainer.open(file, "saved.elb");
  addSamples(trainer, LABELS, data, []);
  return trainer;
}

describe.each(Object.entries(recipes))("%s", (_, changes) => {
  test("one seed gives one file, another seed another, and a resumed run the same", async () => {
    const whole = await begin(changes);
    const reports = run(whole);
    expect(reports.length).toBe(EPOCHS);
    expect(reports.at(-1)!.train.loss).toBeLessThan(reports[0]!.train.loss);
    const expected = { training: whole.write("training"), f32: whole.write("f32"), int8: whole.write("int8") };

    const again = await begin(changes);
    run(again);
    expect(again.write("training")).toEqual(expected.training);
    const other = await begin({ ...changes, seed: 4 });
    run(other);
    expect(other.write("f32")).not.toEqual(expected.f32);

    const stopped = await begin(changes);
    const early = run(stopped, 3);
    const saved = stopped.write("training");
    // What is written does not disturb the run that goes on.
    expect([...early, ...run(stopped)]).toEqual(reports);
    expect(stopped.write("training")).toEqual(expected.training);
    const resumed = await open(saved);
    resumed.resume();
    expect(resumed.epochsLeft()).toBe(EPOCHS - 3);
    expect(run(resumed)).toEqual(reports.slice(3));
    for (const form of ["training", "f32", "int8"] as const) expect(resumed.write(form)).toEqual(expected[form]);
  });
});

test("a new run may start from the weights of a file, and one seed gives one file", async () => {
  const first = await begin();
  run(first);
  const weights = first.write("f32");
  const again = async (): Promise<Uint8Array> => {
    const trainer = await open(weights);
    trainer.start({ ...PLAIN, wordDropout: 0.2 });
    expect(run(trainer)).toHaveLength(EPOCHS);
    return trainer.write("f32");
  };
  const bytes = await again();
  expect(bytes).toEqual(await again());
  expect(bytes).not.toEqual(weights);
});

describe("a new run on an opened file", () => {
  test.each<[string, Partial<RecipeOptions>]>([
    ["words alone", {}],
    ["words and n-grams", { addNgrams: true, wordDropout: 0.2 }],
    ["words and n-grams, averaged", { addNgrams: true, averageDecay: 0.9 }],
    ["momentum and an average", { ...SGD, averageDecay: 0.9 }],
  ])("of %s starts from what the file answers with, and adds nothing twice", async (_, changes) => {
    const first = await begin(changes);
    run(first, 3);
    const parted = first.tensor(0);
    for (const [form, addNgrams] of [
      ["training", true],
      ["training", false],
      ["f32", true],
    ] as const) {
      const trainer = await open(first.write(form));
      trainer.start({ ...PLAIN, addNgrams });
      expect(trainer.write("f32")).toEqual(first.write("f32"));
      // Only a training form has kept the words apart from their n-grams.
      if (changes.addNgrams && !changes.averageDecay)
        expect(trainer.tensor(0)).toEqual(form === "training" ? parted : (await opened(first.write("f32"))).tensor(0));
      run(trainer, 1);
      const next = await open(trainer.write("training"));
      next.start(PLAIN);
      expect(next.write("f32")).toEqual(trainer.write("f32"));
    }
  });

  test("may add labels, whose outputs begin at 0 beside the others", async () => {
    const first = await begin({ addNgrams: true });
    run(first, 2);
    const old = await opened(first.write("f32"));
    const trainer = await Trainer.open(first.write("training"), "saved.elb");
    for (const label of ["é", "new"]) trainer.addLabel(label);
    const data = samples.map((sample, i) => (i % 2 ? sample : { ...sample, label: i % 4 ? "é" : "new" }));
    addSamples(trainer, [...LABELS, "é", "new"], data, []);
    trainer.start({ ...PLAIN, learningRate: 0.05 });
    const grown = await opened(trainer.write("f32"));
    const last = old.tensorCount() - 1;
    for (let i = 0; i < last - 1; i++) expect(grown.tensor(i)).toEqual(old.tensor(i));
    for (const i of [last - 1, last]) {
      const rows = old.tensor(i).length / LABELS.length;
      const expected = Array.from({ length: rows }, (_, r) => [
        ...old.tensor(i).subarray(r * LABELS.length, (r + 1) * LABELS.length),
        0,
        0,
      ]).flat();
      expect([...grown.tensor(i)]).toEqual(expected);
    }
    run(trainer);
    const { labels, classify } = await Classifier.fromBytes(trainer.write("int8"), "grown").then((model) => ({
      labels: model.labels,
      classify: (text: string) => model.classify(text).label,
    }));
    expect(labels).toEqual([...LABELS, "é", "new"]);
    expect(data.filter(({ label, text }) => classify(text) === label).length).toBeGreaterThan(0.8 * data.length);
  });

  test("does not add a label twice, nor a third one to a single output", async () => {
    const first = await begin();
    const trainer = await opened(first.write("training"));
    expect(() => trainer.addLabel(LABELS[0]!)).toThrow(expect.objectContaining({ code: "bad_state" }));
    const described = await Trainer.open(first.write("training"), "saved.elb");
    expect(() => described.addLabel(LABELS[0]!)).toThrow(expect.objectContaining({ code: "bad_labels" }));
    const two = samples.filter(({ label }) => label !== LABELS[0]);
    const sigmoid = await begin({ binaryOutput: true, loss: "binary_crossentropy" }, two);
    const single = await Trainer.open(sigmoid.write("training"), "saved.elb");
    expect(() => single.addLabel("third")).toThrow(expect.objectContaining({ code: "bad_layers" }));
  });

  test("refuses a state that cannot be its weights", async () => {
    const first = await begin({ addNgrams: true });
    const file = first.write("training");
    const { offset, length } = partAt(file, "training");
    const infinite = file.slice();
    write(infinite, offset + SETTINGS_BYTES + STATE_BYTES + 20, "f32", Infinity);
    const short = withParts(file, { training: file.slice(offset, offset + length - 16) });
    for (const bytes of [
      repair(infinite),
      short,
      withParts(file, { training: file.slice(offset, offset + SETTINGS_BYTES) }),
    ]) {
      const trainer = await open(bytes);
      expect(() => trainer.start(PLAIN)).toThrow(expect.objectContaining({ code: "bad_training" }));
    }
  });
});

test("every epoch may end a session", async () => {
  const changes = recipes["the default recipe"]!;
  const whole = await begin(changes);
  run(whole);
  let file = (await begin(changes)).write("training");
  for (let epoch = 0; epoch < EPOCHS; epoch++) {
    const trainer = await open(file);
    trainer.resume();
    run(trainer, 1);
    file = trainer.write("training");
  }
  expect(file).toEqual(whole.write("training"));
});

describe("a run is not resumed", () => {
  let saved: Promise<Uint8Array> | undefined;
  const savedRun = (): Promise<Uint8Array> =>
    (saved ??= begin({ averageDecay: 0.9, wordDropout: 0.2 }).then((trainer) => {
      run(trainer, 3);
      return trainer.write("training");
    }));
  const refusal = "saved.elb: cannot be resumed on these samples or synonyms: its training state is invalid";

  const [first, second, ...rest] = samples;
  test.each<[string, readonly Sample[]]>([
    ["fewer samples", samples.slice(1)],
    ["more samples", [...samples, first!]],
    ["another order", [second!, first!, ...rest]],
    [
      "another label",
      [
        {
          ...first!,
          label: second!.label === first!.label ? LABELS.find((label) => label !== first!.label)! : second!.label,
        },
        second!,
        ...rest,
      ],
    ],
    ["words in another order", [{ ...first!, text: first!.text.split(" ").reverse().join(" ") }, second!, ...rest]],
  ])("on %s", async (_, data) => {
    const trainer = await open(await savedRun(), data);
    expect(() => trainer.resume()).toThrow(refusal);
  });

  test("without samples, or from a file that holds no run", async () => {
    const empty = await Trainer.open(await savedRun(), "saved.elb");
    expect(() => empty.resume()).toThrow(refusal);
    const plain = await open((await begin()).write("f32"));
    expect(() => plain.resume()).toThrow("saved.elb: cannot be resumed");
  });

  const trainingAt = (file: Uint8Array): number => partAt(file, "training").offset;
  const setting =
    (name: string, value: number) =>
    (file: Uint8Array): void => {
      const field = settingsFields.find((item) => item.name === name)!;
      write(file, trainingAt(file) + field.offset, field.type, value);
    };
  const state =
    (offset: number, type: string, value: number) =>
    (file: Uint8Array): void =>
      write(file, trainingAt(file) + SETTINGS_BYTES + offset, type, value);
  /** Value 5 of block `index`: parameters, m, v, average. */
  const block =
    (index: number, value: number) =>
    (file: Uint8Array): void =>
      write(
        file,
        trainingAt(file) + SETTINGS_BYTES + STATE_BYTES + index * headerValue(file, "weightBytes") + 20,
        "f32",
        value,
      );

  test.each<[string, (file: Uint8Array) => void]>([
    ["an unknown loss", setting("loss", 7)],
    ["an unknown optimizer", setting("optimizer", 0)],
    ["an optimizer with other slots", setting("optimizer", abi.OPTIMIZER_SGD)],
    ["unknown flags", setting("optimizerFlags", 1 << 16)],
    ["an average that has no decay", setting("averageDecay", 0)],
    ["an unknown schedule", setting("schedule", 9)],
    ["a rate that is no number", setting("learningRate", NaN)],
    ["a negative rate", setting("learningRate", -1)],
    ["momentum of 1", setting("beta1", 1)],
    ["weight decay beyond the weights", setting("weightDecay", 1e6)],
    ["no epochs", setting("epochs", 0)],
    ["more epochs done than there are", setting("epochsDone", EPOCHS + 1)],
    ["batches of no samples", setting("batch", 0)],
    ["huge batches", setting("batch", 2 ** 32 - 1)],
    ["a switch that is neither on nor off", setting("isBalanced", 2)],
    ["masks beyond what a sample can have", setting("dropoutSamples", abi.MAX_DROPOUT_SAMPLES + 1)],
    ["a perturbation as long as the vectors", setting("perturbation", 1)],
    ["a generator of zeros", (file) => [16, 20, 24, 28].forEach((offset) => state(offset, "u32", 0)(file))],
    ["a power above 1", state(0, "f64", 1.5)],
    ["a power that is no number", state(8, "f64", NaN)],
    ["weights that are swapped", state(40, "u32", 1)],
    ["a reserved word of the state", state(52, "u32", 1)],
    ["pretrained rows that the embedding does not have", state(48, "u32", 1_000_000)],
    ["infinite weights", block(0, Infinity)],
    ["a slot that is no number", block(1, NaN)],
    ["an infinite second slot", block(2, -Infinity)],
    ["an average that is no number", block(3, NaN)],
  ])("with %s", async (_, damage) => {
    const file = (await savedRun()).slice();
    damage(file);
    const trainer = await open(repair(file));
    expect(() => trainer.resume()).toThrow(
      /saved\.elb: cannot be resumed on these samples or synonyms: (its training state is invalid|a setting is outside its range|.*memory)/,
    );
  });

  test("with a state that is too long, too short or only its beginning", async () => {
    const file = await savedRun();
    const { offset, length } = partAt(file, "training");
    for (const bytes of [
      length + 16,
      length - 16,
      length - headerValue(file, "weightBytes"),
      SETTINGS_BYTES,
      SETTINGS_BYTES - 16,
    ]) {
      const training = new Uint8Array(bytes);
      training.set(file.subarray(offset, offset + Math.min(bytes, length)));
      const trainer = await open(withParts(file, { training }));
      expect(() => trainer.resume(), `${bytes} bytes`).toThrow("saved.elb: cannot be resumed");
    }
  });
});

describe("a run", () => {
  test("of numbers that overflow stops with a name, and what is written before is finite", async () => {
    const changes: Partial<RecipeOptions> = { ...SGD, learningRate: 9e5, loss: "mean_squared_error" };
    const trainer = await begin(changes);
    try {
      run(trainer);
      trainer.write("f32");
    } catch (error) {
      expect(error).toMatchObject({ code: "not_finite" });
    }
    const weights = Array.from({ length: trainer.tensorCount() }, (_, i) => trainer.tensor(i));
    expect(weights.every((tensor) => tensor.every(Number.isFinite))).toBe(true);
  });

  test("whose weights are not finite writes no file", async () => {
    const trainer = await begin();
    trainer.setTensor(0, trainer.tensor(0).fill(NaN, 3, 4));
    expect(() => trainer.write("f32")).toThrow(expect.objectContaining({ code: "not_finite" }));
  });

  test("weighs classes as N / (K n) when they are balanced", async () => {
    // 6 + 1 + 1 samples; one batch holds all, and a rate near 0 leaves the weights alone.
    const few = [...samples.slice(0, 6), samples[6]!, samples[12]!];
    expect(new Set(few.map(({ label }) => label)).size).toBe(3);
    const still: Partial<RecipeOptions> = { optimizer: "sgd", momentum: 0, learningRate: 1e-20, batch: 8, minCount: 1 };
    const lossOf = async (balanced: boolean, data: readonly Sample[]): Promise<number> => {
      const trainer = await begin({ ...still, balanced }, few);
      addSamples(trainer, LABELS, [], data);
      if (data.length > 0) return trainer.validate().loss;
      return run(trainer, 1)[0]!.train.loss;
    };
    // Validation does not weigh: it gives each class's own mean.
    const means = await Promise.all(
      LABELS.map((label) =>
        lossOf(
          false,
          few.filter((sample) => sample.label === label),
        ),
      ),
    );
    const counts = [6, 1, 1];
    const plain = means.reduce((sum, mean, k) => sum + mean * counts[k]!, 0) / 8;
    const balanced = means.reduce((sum, mean, k) => sum + mean * counts[k]! * (8 / (3 * counts[k]!)), 0) / 8;
    expect(await lossOf(false, [])).toBeCloseTo(plain, 5);
    expect(await lossOf(true, [])).toBeCloseTo(balanced, 5);
    expect(Math.abs(plain - balanced)).toBeGreaterThan(1e-3);
  });

  test("validates on the averaged weights, which are those of its file, and goes on from its own", async () => {
    const trainer = await begin({ averageDecay: 0.9 });
    addSamples(trainer, LABELS, [], samples);
    const unaveraged = await begin();
    addSamples(unaveraged, LABELS, [], samples);
    // Before the first step there is nothing to average.
    expect(trainer.validate()).toEqual(unaveraged.validate());
    run(trainer, 2);
    const before = trainer.tensor(0);
    const validation = trainer.validate();
    expect(trainer.tensor(0)).toEqual(before);
    const written = await Trainer.open(trainer.write("f32"), "averaged");
    written.buildOpened();
    const plain = await begin({ learningRate: 1e-20, optimizer: "sgd", momentum: 0 });
    addSamples(plain, LABELS, [], samples);
    for (let i = 0; i < written.tensorCount(); i++) plain.setTensor(i, written.tensor(i));
    expect(plain.validate()).toEqual(validation);
    expect(written.tensor(0)).not.toEqual(before);
  });

  test.each([
    [0.5, 1],
    [0.99, 1],
    [0.99, 100],
  ])("averages by %d a step, every eighth step and at the end of an epoch, in batches of %i", async (decay, batch) => {
    const trainer = await begin({ averageDecay: decay, batch });
    const epochBatches = Math.ceil(samples.length / batch);
    let average: number[] = [];
    let updates = 0;
    for (let epoch = 0; epoch < 3; epoch++) {
      const batches = trainer.epoch();
      let since = 0;
      for (let i = 0; i < epochBatches; i++) {
        const isLast = batches.next().value === 0;
        if (++since < 8 && !isLast) continue;
        const weights = [...trainer.tensor(0)];
        const kept = Math.min(decay ** since, updates / (updates + 10));
        average = weights.map((w, j) => (updates === 0 ? w : kept * average[j]! + (1 - kept) * w));
        updates++;
        since = 0;
      }
      expect(batches.next().done).toBe(true);
    }
    const written = await opened(trainer.write("f32"));
    written.tensor(0).forEach((a, j) => expect(Math.abs(a - average[j]!), `weight ${j}`).toBeLessThan(1e-6));
    expect(written.tensor(0)).not.toEqual(trainer.tensor(0));
  });

  test("tells after each batch how many epochs are done", async () => {
    const told: number[] = [];
    runEpochs(await begin({ batch: 5 }), EPOCHS, false, { onBatch: (done) => told.push(done) }, 2);
    const batches = Math.ceil(samples.length / 5);
    expect(told).toHaveLength(2 * batches);
    told.forEach((done, i) => expect(done).toBeCloseTo((i + 1) / batches, 12));
    expect([told[batches - 1], told.at(-1)]).toEqual([1, 2]);
  });

  test("that adds n-grams writes words whose rows hold them, and no others", async () => {
    const { ngramBuckets } = PLAIN.tokenizer;
    const trainer = await begin({ addNgrams: true, wordDropout: 0.3 });
    run(trainer);
    const file = trainer.write("f32");
    const own = trainer.tensor(0);
    const opened = await Trainer.open(file, "merged");
    opened.buildOpened();
    const merged = opened.tensor(0);
    const { offset, length } = partAt(file, "words");
    const ends = partAt(file, "wordOffsets").offset;
    const count = trainer.wordCount();
    const width = PLAIN.embedding;
    const bytes = file.subarray(offset, offset + length);
    for (let id = 1; id <= count; id++) {
      const word = new TextDecoder().decode(
        bytes.subarray(read(file, ends + 4 * (id - 1), "u32"), read(file, ends + 4 * id, "u32")),
      );
      const rows = ngramRows(
        word,
        headerValue(file, "ngramMin"),
        headerValue(file, "ngramMax"),
        ngramBuckets,
        1 + count,
      );
      for (let j = 0; j < width; j++) {
        const mean = rows.reduce((sum, row) => sum + own[row * width + j]!, 0) / Math.max(1, rows.length);
        expect(Math.abs(merged[id * width + j]! - own[id * width + j]! - mean)).toBeLessThan(1e-6);
      }
    }
    expect(merged.subarray(0, width)).toEqual(own.subarray(0, width));
    expect(merged.subarray((1 + count) * width)).toEqual(own.subarray((1 + count) * width));
    expect(merged).not.toEqual(own);
  });

  test("takes each sample once an epoch, in batches of equal lengths", async () => {
    const trainer = await begin({ batch: 7 });
    const batches = trainer.epoch();
    const left: number[] = [];
    for (let step = batches.next(); !step.done; step = batches.next()) left.push(step.value);
    expect(left).toEqual([2, 1, 0]);
  });

  test.each<[string, Partial<RecipeOptions>]>([
    ["no epochs", { epochs: 0 }],
    ["too many epochs", { epochs: 100_001 }],
    ["no batch", { batch: 0 }],
    ["no rate", { learningRate: 0 }],
    ["a rate that is no number", { learningRate: NaN }],
    ["a warm-up of all steps", { warmup: 1 }],
    ["word dropout of all words", { wordDropout: 1 }],
    ["an average that never moves", { averageDecay: 1 }],
    ["a rate that ends above its highest", { schedule: "cosine", finalRate: 1.1 }],
    ["a negative perturbation", { perturbation: -0.1 }],
    ["weight decay beyond the weights", { weightDecay: 1000 }],
  ])("with %s is refused", async (_, changes) => {
    await expect(begin(changes)).rejects.toThrow("training settings: a setting is outside its range");
  });
});
