// Pretrained vectors: files in all their forms and with all their faults, what becomes of the numbers, and what the model
// has of words that no text has.
import { expect, test } from "vitest";
import type { Sample } from "../../../host/data/dataset.ts";
import { Survey } from "../../../host/data/survey.ts";
import { Classifier } from "../../../host/model/classifier.ts";
import {
  addSamples,
  DEFAULT_RECIPE,
  prepareAdapted,
  type RecipeOptions,
  runEpochs,
} from "../../../host/training/recipe.ts";
import { tune } from "../../../host/training/fine-tune.ts";
import { Trainer } from "../../../host/training/trainer.ts";
import type { VectorFile } from "../../../host/training/vectors.ts";
import { partAt, repair } from "../../support/model-file.ts";

const RECIPE = {
  ...DEFAULT_RECIPE,
  embedding: 4,
  units: 4,
  epochs: 4,
  batch: 8,
  minSteps: 0,
  minCount: 1,
  numWords: 8,
  tokenizer: { ...DEFAULT_RECIPE.tokenizer, ngramBuckets: 16 },
};
const TEXTS: Sample[] = ["red green", "green red dark", "dog cat", "cat dog dark", "red", "dog"].map((text, i) => ({
  label: /red/.test(text) ? "colour" : "animal",
  text,
  line: i + 1,
}));
const LINES = [
  "The 1 0 2",
  "red 3 1 0",
  "green 2 1 0.5",
  "dog -1 2 -1e0",
  "cat -1.5 +2 -.5",
  "blue 2.5 1 25e-2",
  "horse -1 1 -1",
];
const FILE = LINES.map((line) => `${line}\n`).join("");

function file(content: string, part = 1 << 16): VectorFile {
  const bytes = new TextEncoder().encode(content);
  return {
    source: "x.vec",
    read: async function* () {
      for (let i = 0; i < bytes.length; i += part) yield bytes.subarray(i, i + part);
    },
  };
}

async function prepare(content: string, notes: string[] = [], part?: number, changes = {}): Promise<Trainer> {
  const recipe = { ...RECIPE, ...changes };
  const { trainer } = await prepareAdapted(new Survey(TEXTS), [], recipe, new Set(), file(content, part), (note) =>
    notes.push(note),
  );
  trainer.start(recipe);
  return trainer;
}

/** The rows of the words, by word. */
function rowsOf(trainer: Trainer, width = RECIPE.embedding): Map<string, number[]> {
  const values = trainer.tensor(0);
  return new Map(
    trainer.vocabulary().words.map((word, i) => [word, [...values.subarray((i + 1) * width, (i + 2) * width)]]),
  );
}

const dot = (a: number[], b: number[]): number => a.reduce((sum, value, k) => sum + value * b[k]!, 0);

/** The vectors of the lines, less their mean. */
function centred(lines: readonly string[]): Map<string, number[]> {
  const vectors = lines.map((line) => line.split(" ").slice(1).map(Number));
  const mean = vectors[0]!.map((_, k) => vectors.reduce((sum, vector) => sum + vector[k]!, 0) / vectors.length);
  return new Map(
    lines.map((line, i) => [line.split(" ")[0]!.toLowerCase(), vectors[i]!.map((value, k) => value - mean[k]!)]),
  );
}

test("words of the texts come first, then the first of the file; rows are centred and have one length", async () => {
  const notes: string[] = [];
  const rows = rowsOf(await prepare(FILE, notes));
  // Seven words have room; one of the texts has no vector, so that two others are taken.
  expect([...rows.keys()]).toEqual(["dark", "red", "dog", "green", "cat", "the", "blue"]);
  expect(notes).toEqual(["x.vec: has vectors for 4 of the 5 words of the texts; 2 other words are read by theirs"]);
  const expected = centred(LINES.slice(0, 6));
  for (const [word, vector] of expected) {
    const length = Math.sqrt(dot(vector, vector));
    [...vector, 0].forEach((value, k) => expect(rows.get(word)![k]).toBeCloseTo((4 * value) / length, 5));
  }
  expect(Math.max(...rows.get("dark")!.map(Math.abs))).toBeLessThan(0.2);
});

test.each([
  ["a header", `7 3\n${FILE}`],
  ["blanks behind the numbers", FILE.replaceAll("\n", " \n")],
  ["tabs and Windows' line ends", FILE.replaceAll(" ", "\t").replaceAll("\n", "\r\n")],
  ["no end of the last line", FILE.trimEnd()],
  ["empty lines", `${FILE.replaceAll("\n", "\n\n")}\n`],
  ["words with blanks, and one that is a blank", FILE.replace("red", "a . b 1 2 3\n 1 2 3\nred")],
])("a file with %s is the same", async (_, content) => {
  const plain = (await prepare(FILE)).write("f32");
  expect((await prepare(content)).write("f32")).toEqual(plain);
});

test("it does not matter how the file is cut into parts", async () => {
  const plain = (await prepare(FILE)).write("f32");
  for (const part of [1, 2, 5, 13]) expect((await prepare(FILE, [], part)).write("f32")).toEqual(plain);
});

test("the word as it is beats one in capitals, wherever it stands; of two such words the first counts, and the second is named", async () => {
  const plain = (await prepare(FILE)).write("f32");
  const notes: string[] = [];
  const more = FILE.replace("red", "RED 9 9 9\nred")
    .replace("dog", "Green 7 7 7\nred 5 5 5\ndog")
    .replace("cat", "red 6 6 6\ncat");
  expect((await prepare(more, notes)).write("f32")).toEqual(plain);
  expect(notes[1]).toBe("x.vec: line 6: a second vector for the same word, of 2 such; the first ones count");
});

test.each([
  ["red 1 2 3\ndog 1 2\n", "line 2: 2 numbers behind the word, where the first line has 3"],
  ["9 3\nred 1 2 3\n\ndog 1 2 3 4\n", "line 4: 4 numbers behind the word, where the header says 3"],
  ["red 1 2 3\ndog 1 2 3 4\n", "line 2: 4 numbers behind the word, where the first line has 3"],
  ["red 1 2 3\ndog 1 x 3\n", "line 2: holds something else than numbers behind the word"],
  ["red 1 2 3\ndog 1 nan 3", "line 2: holds something else than numbers behind the word"],
  ["red 1 2 1e40\n", "line 1: holds something else than numbers behind the word"],
  ["red 1 2 1e\n", "line 1: holds something else than numbers behind the word"],
  ["red 1 2 --1\n", "line 1: holds something else than numbers behind the word"],
  ["red 1 2 .\n", "line 1: holds something else than numbers behind the word"],
  ["2 5000\nred 1\n", "line 1: says that vectors have 5000 numbers; 1 to 4096 are read"],
  ["2 0\nred 1\n", "line 1: says that vectors have 0 numbers; 1 to 4096 are read"],
  ["3 3\nred 1 2 3\ndog 1 2 3\n", "holds 2 words, where its header says 3; it is cut off, fetch it again"],
  [
    "red\n",
    "line 1: has no numbers behind a word; word vectors are read as text: fastText's and word2vec's .vec or GloVe's .txt, also in gzip",
  ],
  [
    "",
    "line 0: has no numbers behind a word; word vectors are read as text: fastText's and word2vec's .vec or GloVe's .txt, also in gzip",
  ],
  ["rouge 1 2 3\n", "has no vector for any word of the texts; is it of another language?"],
  [
    "x".repeat(1_100_000),
    "has a line of more than 1 MiB; word vectors are read as text: fastText's and word2vec's .vec or GloVe's .txt, also in gzip",
  ],
])("%j is refused", async (content, reason) => {
  await expect(prepare(content)).rejects.toThrow(`x.vec: ${reason}`);
});

test("vectors of more numbers than the embedding keep what they have in the directions in which they differ", async () => {
  // Six numbers, of which the last four are sums of the others: so all lie in a plane.
  const plane = LINES.map((line) => {
    const [word, x, y] = line.split(" ") as [string, string, string];
    const [a, b] = [Number(x), Number(y)];
    return `${word} ${[a, b, a + b, a - b, 2 * a, 3 * b - a].join(" ")}`;
  });
  const rows = rowsOf(await prepare(plane.join("\n"), [], undefined, { embedding: 2 }), 2);
  const expected = centred(plane.slice(0, 6));
  for (const one of expected.keys())
    for (const other of expected.keys()) {
      const [a, b] = [expected.get(one)!, expected.get(other)!];
      const cosine = dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
      expect(dot(rows.get(one)!, rows.get(other)!) / 16).toBeCloseTo(cosine, 4);
    }
});

test("rows with a vector do not learn, not even in a resumed run, which gives the same bits", async () => {
  const changes = { addNgrams: false, weightDecay: 0.01 };
  const whole = await prepare(FILE, [], undefined, changes);
  const before = rowsOf(whole);
  runEpochs(whole, 4, false, {});
  const after = rowsOf(whole);
  for (const [word, row] of before) {
    if (word === "dark") expect(after.get(word)).not.toEqual(row);
    else expect(after.get(word)).toEqual(row);
  }
  const part = await prepare(FILE, [], undefined, changes);
  runEpochs(part, 4, false, {}, 2);
  const saved = part.write("training");
  const resumed = await Trainer.open(saved, "saved.elb");
  addSamples(resumed, resumed.labels(), TEXTS, []);
  resumed.resume();
  runEpochs(resumed, 4, false, {});
  expect(resumed.write("training")).toEqual(whole.write("training"));
  // The ids from 2 on have a vector. A state that names rows which the model does not have is refused.
  const { offset } = partAt(saved, "training");
  const [frozenFirst, frozenCount] = [offset + 128 + 44, offset + 128 + 48];
  const view = new DataView(saved.buffer, saved.byteOffset);
  expect([view.getUint32(frozenFirst, true), view.getUint32(frozenCount, true)]).toEqual([2, 6]);
  const bad = saved.slice();
  new DataView(bad.buffer).setUint32(frozenCount, 24, true);
  const damaged = await Trainer.open(repair(bad), "saved.elb");
  addSamples(damaged, damaged.labels(), TEXTS, []);
  expect(() => damaged.resume()).toThrow(expect.objectContaining({ code: "bad_training" }));
});

test("words that no text has are answered by their vectors, by the network and by the linear part; also after learning", async () => {
  const rooms = ["kitchen", "cellar", "attic", "garage", "hall", "lounge"];
  const foods = ["bread", "cheese", "apple", "onion", "noodle", "pepper"];
  // Rooms point one way, food the other, and each word somewhere else besides.
  const lines = [...rooms, ...foods].map((word, i) => {
    const others = Array.from({ length: 5 }, (_, k) => ((i * 7 + k * 3) % 5) / 10);
    return `${word} ${[i < rooms.length ? 1 : -1, ...others].join(" ")}`;
  });
  const samples = [...rooms.slice(0, 3), ...foods.slice(0, 3)].map((text, i) => ({
    label: i < 3 ? "room" : "food",
    text,
    line: i + 1,
  }));
  const news = [...rooms.slice(3), ...foods.slice(3)];
  const labels = news.map((_, i) => (i < 3 ? "room" : "food"));
  for (const linear of [true, false]) {
    const recipe = { ...RECIPE, numWords: 20, linear, epochs: 60, wordDropout: 0 };
    const asked: RecipeOptions = { ...recipe, tokenizer: { ...recipe.tokenizer, ngramBuckets: 0 } };
    const { trainer } = await prepareAdapted(new Survey(samples), [], asked, new Set(), file(lines.join("\n")));
    trainer.start(asked);
    runEpochs(trainer, asked.epochs, false, {});
    const classifier = await Classifier.fromBytes(trainer.write("int8"), "rooms");
    expect(news.map((text) => classifier.classify(text).label)).toEqual(labels);
    const elb = trainer.write("training");
    const info = (await Classifier.fromBytes(elb, "rooms")).info;
    const learnt = await tune(elb, info, "rooms", samples, { epochs: 2, learningRate: 1e-3, seed: 1 });
    const again = await Classifier.fromBytes(learnt.write("int8"), "rooms");
    expect(news.map((text) => again.classify(text).label)).toEqual(labels);
  }
});
