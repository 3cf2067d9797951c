// Augmentation: what a step sees of a sample's tokens, the edits of words against a twin that
// lists all of them, synonyms, and runs that are seeded, resumed and undisturbed by shares of 0.
import { describe, expect, test } from "vitest";
import { ACTIVATION_SOFTMAX, ERR_BAD_ARGUMENT, LAYER_MASK_ZERO, OK } from "../../../assembly/abi.ts";
import { DEFAULT_RECIPE, prepareTraining, type RecipeOptions, runEpochs } from "../../../host/training/recipe.ts";
import { addSynonyms, parseSynonyms } from "../../../host/training/synonyms.ts";
import type { Augmentation } from "../../../host/training/settings.ts";
import { Trainer } from "../../../host/training/trainer.ts";
import { dense, embedding, lstm, makeModel, type ModelSpec } from "../../support/models.ts";
import { loadWasm, put, type Exports } from "../../support/wasm.ts";

const encoder = new TextEncoder();
const WORDS = ["play", "cat", "car", "straße", "中文字", "at", "x", "start"];
const BUCKETS = 50_000;
const NGRAMS = { ngramBuckets: BUCKETS, ngramMin: 3, ngramMax: 5 };

class Augmented {
  readonly wasm: Exports;
  readonly #self: number;
  readonly #random: number;
  readonly #rows: number;
  readonly #model: number;

  private constructor(wasm: Exports, seed: number) {
    this.wasm = wasm;
    this.#model = wasm["loadedModel"]();
    this.#self = wasm["loadedAugmentation"]();
    this.#random = wasm["allocate"](16);
    this.#rows = wasm["allocate"](1024);
    wasm["randomSeed"](this.#random, seed);
  }

  static async create(spec: Partial<ModelSpec> = {}, seed = 1): Promise<Augmented> {
    const made = await makeModel(
      {
        words: WORDS,
        labels: ["a", "b"],
        layers: [embedding(4, LAYER_MASK_ZERO), lstm(4), dense(2, ACTIVATION_SOFTMAX)],
        ...spec,
        tokenizer: { sequenceLength: 512, ...NGRAMS, ...spec.tokenizer },
      },
      (_, length) => new Float32Array(length),
    );
    const file = made.write("f32");
    const wasm = loadWasm("testing");
    const address: number = wasm["reserveModel"](file.length);
    new Uint8Array(wasm.memory.buffer, address, file.length).set(file);
    expect(wasm["loadModel"](file.length)).toBe(OK);
    return new Augmented(wasm, seed);
  }

  shares({ delete: deletion = 0, swap = 0, synonym = 0, typo = 0 }: Augmentation): this {
    new Float32Array(this.wasm.memory.buffer, this.#self, 4).set([deletion, swap, synonym, typo]);
    return this;
  }

  tokens(first: number, count: number): number[] {
    const kept: number = this.wasm["augmentTokens"](this.#self, this.#random, first, count);
    const address = new Uint32Array(this.wasm.memory.buffer, this.#self, 5)[4]!;
    return Array.from(new Uint32Array(this.wasm.memory.buffer, address, kept));
  }

  word(id: number): number[] {
    const count: number = this.wasm["augmentWord"](this.#self, this.#model, this.#random, id, this.#rows);
    return Array.from(new Uint32Array(this.wasm.memory.buffer, this.#rows, count));
  }

  synonym(word: string, begins: boolean): number {
    const bytes = encoder.encode(word);
    return this.wasm["addSynonym"](this.#self, this.#model, put(this.wasm, bytes), bytes.length, begins);
  }

  /** Rows that a text's only token has: those of a known word, or of its n-grams. */
  rowsOf(word: string): number[] {
    const id = WORDS.indexOf(word) + 1;
    if (id > 0) return [id];
    const bytes = encoder.encode(word);
    const count: number = this.wasm["ngramRows"](
      put(this.wasm, bytes),
      bytes.length,
      3,
      5,
      BUCKETS,
      1 + WORDS.length,
      this.#rows,
    );
    return Array.from(new Uint32Array(this.wasm.memory.buffer, this.#rows, count));
  }

  randomState(): number[] {
    return Array.from(new Uint32Array(this.wasm.memory.buffer, this.#random, 4));
  }
}

/** All words that one edit makes of `word`, by kind. */
function edits(word: string): Record<"delete" | "transpose" | "replace" | "insert", string[]> {
  const points = [...word];
  const letters = [...new Set(WORDS.join(""))];
  const places = [...points.keys()];
  const splice = (at: number, count: number, ...inserted: string[]): string =>
    points.toSpliced(at, count, ...inserted).join("");
  return {
    delete: places.map((at) => splice(at, 1)),
    transpose: places.slice(1).map((at) => splice(at - 1, 2, points[at]!, points[at - 1]!)),
    replace: places.flatMap((at) => letters.map((letter) => splice(at, 1, letter))),
    insert: [...places, points.length].flatMap((at) => letters.map((letter) => splice(at, 0, letter))),
  };
}

describe("tokens", () => {
  test("are left out by the share, in order, and never all", async () => {
    const augmented = (await Augmented.create()).shares({ delete: 0.25 });
    let kept = 0;
    for (let run = 0; run < 200; run++) {
      const list = augmented.tokens(7, 100);
      expect(list).toEqual([...new Set(list)].sort((a, b) => a - b));
      expect(list.every((token) => token >= 7 && token < 107)).toBe(true);
      kept += list.length;
    }
    // 20,000 draws: five standard deviations are 0.0153.
    expect(Math.abs(kept / 20_000 - 0.75)).toBeLessThan(0.0153);
    augmented.shares({ delete: 0.99 });
    for (let run = 0; run < 300; run++) expect(augmented.tokens(0, 3).length).toBeGreaterThanOrEqual(1);
    expect(augmented.tokens(0, 0)).toEqual([]);
  });

  test("trade places with their neighbours, by one place at most", async () => {
    const augmented = (await Augmented.create()).shares({ swap: 0.3 });
    let moved = 0;
    for (let run = 0; run < 200; run++) {
      const list = augmented.tokens(0, 50);
      expect(list.toSorted((a, b) => a - b)).toEqual([...Array(50).keys()]);
      list.forEach((token, i) => expect(Math.abs(token - i)).toBeLessThanOrEqual(1));
      moved += list.filter((token, i) => token !== i).length;
    }
    // A swap begins at a free place with 0.3 and takes two places: 2 * 0.3 / 1.3 of all move.
    expect(Math.abs(moved / 10_000 - 0.4615)).toBeLessThan(0.03);
  });

  test("stay as they are without shares, and no random number is drawn", async () => {
    const augmented = await Augmented.create();
    const before = augmented.randomState();
    expect(augmented.tokens(5, 4)).toEqual([5, 6, 7, 8]);
    expect(augmented.word(1)).toEqual([]);
    expect(augmented.randomState()).toEqual(before);
  });
});

describe("typos", () => {
  test.each(["play", "straße", "中文字"])("of %s are one edit away, of every kind", async (word) => {
    const augmented = (await Augmented.create()).shares({ typo: 0.999 });
    const all = edits(word);
    const kindsOf = new Map<string, Set<string>>();
    for (const [kind, list] of Object.entries(all)) {
      for (const edited of list) {
        const key = augmented.rowsOf(edited).join();
        kindsOf.set(key, (kindsOf.get(key) ?? new Set()).add(kind));
      }
    }
    const seen = new Set<string>();
    for (let run = 0; run < 500; run++) {
      const rows = augmented.word(WORDS.indexOf(word) + 1);
      if (rows.length === 0) continue; // the share is below 1
      const kinds = kindsOf.get(rows.join());
      expect(kinds, `rows ${rows.join()}`).toBeDefined();
      if (kinds!.size === 1) seen.add([...kinds!][0]!);
    }
    expect([...seen].sort()).toEqual(["delete", "insert", "replace", "transpose"]);
  });

  test("may make another known word, spare short ones and keep to the share", async () => {
    const augmented = (await Augmented.create()).shares({ typo: 0.5 });
    const list = Array.from({ length: 2000 }, () => augmented.word(2).join());
    expect(list).toContain("3"); // cat -> car
    const unchanged = list.filter((rows) => rows === "").length;
    expect(Math.abs(unchanged / 2000 - 0.5)).toBeLessThan(0.056);
    for (let run = 0; run < 100; run++) {
      expect(augmented.word(6)).toEqual([]);
      expect(augmented.word(7)).toEqual([]);
    }
  });

  test("are the unknown word without n-grams, and nothing where unknown words are dropped", async () => {
    const without = { ngramBuckets: 0, ngramMin: 0, ngramMax: 0 };
    const named = (await Augmented.create({ tokenizer: without, unknownId: 8 })).shares({ typo: 0.999 });
    expect(new Set(Array.from({ length: 50 }, () => named.word(1).join()))).toContain("8");
    const dropped = (await Augmented.create({ tokenizer: without })).shares({ typo: 0.999 });
    // A letter may be replaced by itself.
    for (let run = 0; run < 50; run++) expect(["", "1"]).toContain(dropped.word(1).join());
  });
});

describe("synonyms", () => {
  test("are drawn from the word's groups, unknown ones as n-grams", async () => {
    const augmented = (await Augmented.create()).shares({ synonym: 0.999 });
    for (const group of [
      ["Play", "start", "launch"],
      ["cat", "feline"],
      ["play", "car"],
    ]) {
      group.forEach((word, i) => expect(augmented.synonym(word, i === 0)).toBe(OK));
    }
    const counts = new Map<string, number>();
    for (let run = 0; run < 3000; run++) {
      const rows = augmented.word(1).join();
      counts.set(rows, (counts.get(rows) ?? 0) + 1);
    }
    const share = (word: string): number => (counts.get(augmented.rowsOf(word).join()) ?? 0) / 3000;
    // Each group with 1/2, each other member of it alike.
    expect(Math.abs(share("start") - 1 / 4)).toBeLessThan(0.04);
    expect(Math.abs(share("launch") - 1 / 4)).toBeLessThan(0.04);
    expect(Math.abs(share("car") - 1 / 2)).toBeLessThan(0.05);
    expect(share("play")).toBe(0);
    expect(share("feline")).toBe(0);
    expect(augmented.word(4)).toEqual([]);
  });

  test("replace as many words as the share says, whatever the size of their group, and none for want of another", async () => {
    const augmented = (await Augmented.create()).shares({ synonym: 0.4 });
    for (const group of [
      ["play", "start"],
      ["cat", "CAT"],
    ])
      group.forEach((word, i) => augmented.synonym(word, i === 0));
    const replaced = (id: number): number =>
      Array.from({ length: 3000 }, () => augmented.word(id).join()).filter((rows) => rows !== "" && rows !== String(id))
        .length / 3000;
    // Five standard deviations.
    expect(Math.abs(replaced(1) - 0.4)).toBeLessThan(0.045);
    expect(replaced(2)).toBe(0);
    expect(augmented.shares({ synonym: 0.999, typo: 0.999 }).word(2)).not.toEqual([]);
  });

  test("are one word each", async () => {
    const augmented = await Augmented.create();
    expect(augmented.synonym("turn on", true)).toBe(ERR_BAD_ARGUMENT);
    expect(augmented.synonym(" ", true)).toBe(ERR_BAD_ARGUMENT);
  });

  test("come from lines of words", () => {
    expect(parseSynonyms("# mine\nplay, start\tlaunch,\r\n\n tv,television\n", "s.txt")).toEqual([
      { words: ["play", "start", "launch"], line: 2 },
      { words: ["tv", "television"], line: 4 },
    ]);
    expect(() => parseSynonyms("play,start\nplay, play\n", "s.txt")).toThrow(
      "s.txt: line 2: a group needs two words or more",
    );
  });

  test("that are not one word are named with their line", async () => {
    const trainer = await prepareTraining(SAMPLES, [], RECIPE);
    expect(() => addSynonyms(trainer, parseSynonyms("red,crimson\nred,dark red", "s.txt"), "s.txt")).toThrow(
      's.txt: line 2: "dark red" is not one word',
    );
  });
});

const SAMPLES = Array.from({ length: 60 }, (_, i) => ({
  label: i % 2 ? "warm" : "cold",
  line: i + 1,
  text: `${["blue", "red"][i % 2]!} ${["door", "house", "window"][i % 3]!} ${["stands", "opens"][(i >> 1) % 2]!} number${i % 7}`,
}));
const RECIPE: RecipeOptions = {
  ...DEFAULT_RECIPE,
  tokenizer: { ...DEFAULT_RECIPE.tokenizer, ngramBuckets: 64 },
  embedding: 8,
  units: 8,
  epochs: 4,
  batch: 8,
  name: "augmented",
};
const SYNONYMS = parseSynonyms("red,crimson,scarlet\nblue,azure", "s.txt");

describe("a run", () => {
  async function train(augment: Augmentation | undefined, epochs = 4, synonyms = SYNONYMS): Promise<Uint8Array> {
    const recipe = { ...RECIPE, augment: augment ?? {} };
    const trainer = await prepareTraining(SAMPLES, [], recipe);
    if (augment?.synonym !== undefined) addSynonyms(trainer, synonyms, "s.txt");
    trainer.start(recipe);
    runEpochs(trainer, recipe.epochs, false, {}, epochs);
    return trainer.write("training");
  }

  async function resume(file: Uint8Array, synonyms: typeof SYNONYMS | null): Promise<Uint8Array> {
    const trainer = await Trainer.open(file, "part.elb");
    SAMPLES.forEach(({ label, text }) => trainer.addSample(label === "cold" ? 0 : 1, text));
    if (synonyms !== null) addSynonyms(trainer, synonyms, "s.txt");
    trainer.resume();
    runEpochs(trainer, 4, false, {});
    return trainer.write("training");
  }

  const all = { delete: 0.1, swap: 0.1, typo: 0.2, synonym: 0.5 };

  test("gives the same bits for the same seed, other bits for other shares", async () => {
    const files = await Promise.all(
      [all, all, { ...all, delete: 0 }, { ...all, swap: 0 }, { ...all, typo: 0 }, { ...all, synonym: 0.1 }].map(
        (augment) => train(augment),
      ),
    );
    const [first, second, ...others] = files.map((file) => Buffer.from(file).toString("base64"));
    expect(second).toBe(first);
    expect(new Set([first, ...others]).size).toBe(5);
  });

  test("with shares of 0 gives the bits of one without augmentation", async () => {
    expect(await train({ delete: 0, swap: 0, typo: 0 })).toEqual(await train(undefined));
  });

  test("that is stopped and resumed gives the bits of one that is not", async () => {
    const part = await train(all, 2);
    expect(await resume(part, SYNONYMS)).toEqual(await train(all));
    await expect(resume(part, null)).rejects.toThrow("cannot be resumed on these samples or synonyms");
    await expect(resume(part, parseSynonyms("red,pink", "s.txt"))).rejects.toThrow("cannot be resumed");
  });

  test("refuses shares that are none", async () => {
    for (const augment of [{ delete: 1 }, { swap: -0.1 }, { typo: NaN }])
      await expect(train(augment)).rejects.toThrow("outside its range");
  });
});
