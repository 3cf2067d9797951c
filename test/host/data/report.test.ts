// `edgelabel data` and what training makes of the same options: the report of small files
// whose duplicates and conflicts are known, cleaning as serving does it, in Node and wasmtime.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { openModel } from "../../../host/model/file.ts";
import { renderChart } from "../../../host/report/chart.ts";
import { doubtsOf, renderReport, reportData, similarLabels } from "../../../host/data/report.ts";
import { parseDataset } from "../../../host/data/dataset.ts";
import { readDataset } from "../../../host/data/read.ts";
import { LabelFigures } from "../../../host/data/survey.ts";
import { EdgelabelError } from "../../../host/errors.ts";
import { renderEvaluation, Tally } from "../../../host/report/evaluation.ts";
import type { Explanation } from "../../../host/model/explanation.ts";
import { renderText } from "../../../host/report/heat-map.ts";
import { createTrainer, DEFAULT_RECIPE, prepareTraining } from "../../../host/training/recipe.ts";
import { edgelabel, main, typed } from "../../support/program.ts";
import { describeShared, sharedPath } from "../../support/shared.ts";
import { cpuSeconds } from "../../support/wait.ts";
import { fetchWasmtime } from "../../tools/fetch-wasmtime.mjs";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-data-"));
const at = (name: string): string => join(folder, name);
afterAll(() => rmSync(folder, { recursive: true }));

const A = [
  "on\tLights on",
  "on\tlights, ON!",
  "on\tLights on",
  "off\tlights on",
  "off\tlights off",
  "off\t:-)",
  "on\tok",
  "off\ta b c d e f",
  "off\tsee www.a.example",
  "off\tsee www.b.example",
].join("\n");
const B = "on\tlights on\non\t中文 ok\n";

describe("the report", () => {
  async function report(cleaning: "urls"[] = []): Promise<ReturnType<typeof reportData>> {
    const trainer = await createTrainer({ ...DEFAULT_RECIPE.tokenizer, cleaning });
    const source = (file: string, content: string) => ({ file, samples: parseDataset(Buffer.from(content), file) });
    return reportData(
      [source("a.tsv", A), source("b.tsv", B)],
      [source("v.tsv", "on\tsee me\noff\tLIGHTS off\n")],
      (text) => trainer.tokens(text),
      5,
    );
  }

  test("a text that stands there a hundred thousand times takes no longer than others", () => {
    const samples = Array.from({ length: 100_000 }, (_, i) => ({ text: "ok", label: "on", line: i + 1 }));
    const seconds = cpuSeconds(() => {
      const { duplicates } = reportData([{ file: "a.tsv", samples }], null, (text) => [text], 5);
      expect(duplicates.exact).toBe(99_999);
    });
    // A list that is copied for each entry takes a minute.
    expect(seconds).toBeLessThan(10);
  });

  test("counts labels, lengths, duplicates, conflicts and overlap, with their lines", async () => {
    expect(await report()).toEqual({
      texts: 12,
      labels: { off: 6, on: 6 },
      imbalance: 1,
      tokens: { median: 2, p95: 6, longest: 6 },
      duplicates: {
        exact: 1,
        alike: 2,
        groups: [
          {
            text: "Lights on",
            label: "on",
            places: [
              { file: "a.tsv", line: 1 },
              { file: "a.tsv", line: 2 },
              { file: "a.tsv", line: 3 },
              { file: "b.tsv", line: 1 },
            ],
          },
        ],
      },
      conflicts: {
        texts: 5,
        groups: [
          {
            text: "Lights on",
            labels: {
              on: [
                { file: "a.tsv", line: 1 },
                { file: "a.tsv", line: 2 },
                { file: "a.tsv", line: 3 },
                { file: "b.tsv", line: 1 },
              ],
              off: [{ file: "a.tsv", line: 4 }],
            },
          },
        ],
      },
      empty: [{ text: ":-)", place: { file: "a.tsv", line: 6 } }],
      single: 1,
      long: { limit: 5, texts: [{ tokens: 6, place: { file: "a.tsv", line: 8 } }] },
      doubts: [],
      similar_labels: [],
      overlap: { texts: 1, places: [{ file: "v.tsv", line: 2 }] },
      strange_labels: {},
    });
  });

  test("compares texts as they are cleaned", async () => {
    const { duplicates } = await report(["urls"]);
    expect(duplicates.alike).toBe(3);
    expect(duplicates.groups).toContainEqual({
      text: "see www.a.example",
      label: "off",
      places: [
        { file: "a.tsv", line: 9 },
        { file: "a.tsv", line: 10 },
      ],
    });
  });

  test("is a table that names lines, and leaves out only what JSON lists", async () => {
    const table = renderReport(await report());
    for (const line of [
      "12 texts, 2 labels",
      "off        6   50.00 %",
      'a.tsv:6: ":-)"',
      "a.tsv:8: 6 tokens",
      '"Lights on" on: a.tsv:1, 2, 3, b.tsv:1',
      '"Lights on" on: a.tsv:1, 2, 3, b.tsv:1; off: a.tsv:4',
      "overlap     1 validation texts",
      "v.tsv:2",
    ])
      expect(table).toContain(line);
    const stars = renderReport(
      reportData(
        [{ file: "x", samples: ["1", "9", "9"].map((label, i) => ({ label, text: `t${i}`, line: i })) }],
        null,
        (text) => [text],
        9,
      ),
    );
    expect(stars).toMatch(/^9 +2 .*\n1 +1 /m);
    const samples = Array.from({ length: 24 }, (_, i) => ({
      label: "a",
      text: `${i >> 1}\u009b${"x".repeat(80)}`,
      line: i + 1,
    }));
    const long = renderReport(reportData([{ file: "x", samples }], null, (text) => [text], 9));
    expect(long).toContain("and 2 more (--json lists all)");
    expect(long).toContain("there is only one label");
    expect(long).not.toMatch(/\u009b|x{60}/);
    expect(long).not.toContain("overlap");
  });
});

describe("a report of texts whose tokens are their words", () => {
  const source = (rows: [label: string, text: string][], file = "x") => ({
    file,
    samples: rows.map(([label, text], i) => ({ label, text, line: i + 1 })),
  });
  const report = (rows: [string, string][], limit = 9) =>
    reportData([source(rows)], null, (text) => text.split(" ").filter(Boolean), limit);

  test("lists labels by falling counts, then by name; imbalance is between first and last", () => {
    const { labels, imbalance } = report([..."ccccccbbaadd"].map((label, i): [string, string] => [label, `text ${i}`]));
    expect(Object.entries(labels)).toEqual([
      ["c", 6],
      ["a", 2],
      ["b", 2],
      ["d", 2],
    ]);
    expect(imbalance).toBe(3);
    expect(reportData([], null, (text) => [text], 9)).toMatchObject({ texts: 0, imbalance: 0, tokens: { longest: 0 } });
  });

  test("tells lengths by quantiles, and which texts are cut", () => {
    const texts = Array.from({ length: 20 }, (_, i): [string, string] => ["a", "w ".repeat(20 - i).trim()]);
    const { tokens, single, long } = report(texts, 18);
    expect(tokens).toEqual({ median: 11, p95: 20, longest: 20 });
    expect(single).toBe(1);
    expect(long.texts.map(({ tokens, place }) => [tokens, place.line])).toEqual([
      [20, 1],
      [19, 2],
    ]);
  });

  test("counts two alike as one duplicate, and two with different labels as a conflict of two", () => {
    expect(
      report([
        ["a", "one"],
        ["a", "one"],
        ["b", "two"],
        ["c", "two"],
        ["b", "three"],
      ]),
    ).toMatchObject({ duplicates: { exact: 1, alike: 0, groups: [{ text: "one" }] }, conflicts: { texts: 2 } });
  });

  test("names validation texts that are in the data, and labels that are not, with their lines", () => {
    const validation = [
      source([
        ["a", "one"],
        ["z", "new"],
        ["a", "old"],
        ["z", "newer"],
      ]),
    ];
    const found = reportData(
      [
        source([
          ["a", "one"],
          ["b", "old"],
        ]),
      ],
      validation,
      (text) => [text],
      9,
    );
    expect(found.overlap).toEqual({
      texts: 2,
      places: [
        { file: "x", line: 1 },
        { file: "x", line: 3 },
      ],
    });
    expect(found.strange_labels).toEqual({
      z: [
        { file: "x", line: 2 },
        { file: "x", line: 4 },
      ],
    });
    const table = renderReport(found);
    expect(table).toContain("overlap     2 validation texts that the training data has too\n  x:1\n  x:3\n");
    expect(table).toContain("strange     labels of validation texts that the training data lacks\n  z: x:2, 4\n");
  });

  test("as a table, to the letter", () => {
    const rows: [string, string][] = [
      ["on", "light on"],
      ["on", "light on"],
      ["on", "on"],
      ["ON", "on"],
      ["off", ""],
      ["off", "a b c d"],
    ];
    expect(renderReport(report(rows, 3))).toBe(
      [
        "6 texts, 3 labels",
        "",
        "label  texts    share",
        "on         3   50.00 %",
        "off        2   33.33 %",
        "ON         1   16.67 %",
        "",
        "similar     labels that look alike, or differ only in letter case or in how a number is written",
        '  "ON", "on"',
        "balance     the most frequent label has 3 times the texts of the rarest",
        "length      median 2 tokens, 95 % have at most 4, the longest 4",
        "long        1 with more than 3 tokens; what is beyond is cut off",
        "  x:6: 4 tokens",
        "empty       1 without any token, 2 with only one",
        '  x:5: ""',
        "duplicates  1 identical to an earlier one, 0 more that look the same to the model",
        '  "light on" on: x:1, 2',
        "conflicts   2 texts that are alike but have different labels",
        '  "on" on: x:3; ON: x:4',
        "",
      ].join("\n"),
    );
    expect(renderReport(report([["a", "one"]]))).toContain("1 texts, 1 label\n");
  });

  test("names at most ten of each kind, and at most ten places of one", () => {
    const twice = (count: number) =>
      Array.from({ length: 2 * count }, (_, i): [string, string] => ["a", `text ${i % count}`]);
    expect(renderReport(report(twice(10)))).not.toContain("more (--json lists all)");
    expect(renderReport(report(twice(11)))).toContain("  and 1 more (--json lists all)");
    const same = (count: number) => renderReport(report(Array.from({ length: count }, () => ["a", "same"])));
    expect(same(10)).toContain('"same" a: x:1, 2, 3, 4, 5, 6, 7, 8, 9, 10\n');
    expect(same(11)).toContain('"same" a: x:1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …\n');
  });
});

describe("labels", () => {
  const samples = (pairs: [string, string][]) => pairs.map(([label, text], i) => ({ label, text, line: i + 1 }));
  const doubts = (given: ReturnType<typeof samples>): string[] => {
    const figures = new LabelFigures();
    for (const sample of given) figures.add(sample);
    return doubtsOf(figures);
  };
  const grouped = (...labels: string[]) => similarLabels(labels);

  test("that are more than the texts make a doubt, and no model", async () => {
    const swappedRound = samples([
      ["turn it on", "on"],
      ["make light", "on"],
      ["off now", "off"],
    ]);
    const sentence = "there are 3 labels, but only 2 different texts. Are label and text the wrong way round?";
    expect(doubts(swappedRound)).toEqual([sentence]);
    await expect(prepareTraining(swappedRound, [], DEFAULT_RECIPE)).rejects.toThrow(new EdgelabelError(sentence));
    expect(
      doubts(
        samples([
          ["turn it on", "on"],
          ["off now", "off"],
        ]),
      ),
    ).toEqual([]);
  });
  test("with a text each make a doubt where texts are many", () => {
    const faq = samples(Array.from({ length: 8 }, (_, i) => [`answer ${i >> 1}`, `question ${i}`]));
    expect(doubts(faq)).toEqual([]);
    faq[1]!.label = "answer 9";
    expect(doubts(faq)).toEqual([
      'there are 5 labels for 8 texts, such as "answer 0"; a label needs several texts. Are label and text the wrong way round?',
    ]);
  });
  test("of the first text alone may be a header", () => {
    const table = samples([
      ["Art", "Meldung"],
      ["on", "a"],
      ["on", "b"],
      ["off", "c"],
      ["off", "d"],
    ]);
    expect(doubts(table)).toEqual([
      'only the first text has the label "Art"; is that a header? Name its columns with --text-column and --label-column',
    ]);
    expect(doubts([...table, ...samples([["dim", "e"]])])).toEqual([]);
  });
  test("that look alike, or are written in other ways, are grouped", () => {
    expect(grouped("OK", "ok", "ok.", "ok\u200b", "St\u00f6rung", "Sto\u0308rung", "st\u00f6rung", "no")).toEqual([
      ["OK", "ok", "ok\u200b"],
      ["St\u00f6rung", "Sto\u0308rung", "st\u00f6rung"],
    ]);
    expect(
      grouped("1", "1.0", "-1", "1.5", "01", "True", "true", "a  b", "a b", "\uff21", "A", "\u2764", "\u2764\ufe0f"),
    ).toEqual([
      ["1", "1.0"],
      ["True", "true"],
      ["a  b", "a b"],
      ["\uff21", "A"],
      ["\u2764", "\u2764\ufe0f"],
    ]);
    expect(grouped("constructor", "__proto__", "a", "b")).toEqual([]);
  });
  test("are shown with what tells them apart", () => {
    const table = renderReport(
      reportData(
        [
          {
            file: "x",
            samples: samples([
              ["Sto\u0308rung", "a"],
              ["ok", "b"],
              ["ok\u200b", "c"],
              ["St\u00f6rung", "d"],
            ]),
          },
        ],
        null,
        (text) => [text],
        9,
      ),
    );
    expect(table).toContain(
      'similar     labels that look alike, or differ only in letter case or in how a number is written\n  "Sto\\u0308rung", "St\u00f6rung"\n  "ok", "ok\\u200b"\n',
    );
  });
});

test("any number of labels is reported, and measured or refused with a sentence", async () => {
  const samples = Array.from({ length: 200_000 }, (_, i) => ({ label: `label ${i}`, text: `text ${i}`, line: i + 1 }));
  const table = renderReport(reportData([{ file: "a.tsv", samples }], null, (text) => [text], 5));
  expect(table).toContain("200000 texts, 200000 labels");
  expect(table).toContain("and 198976 more; a model tells at most 1024 labels apart");
  const tally = new Tally(["on", "off"]);
  expect(() => samples.forEach(({ label }) => tally.add(label, "on"))).toThrow(
    'the data has more than 1024 labels that the model does not know, such as "label 1024". Are label and text the wrong way round?',
  );
  expect(renderEvaluation(tally.evaluate())).toContain("label 1023");
});

test("figures of any number of epochs and tokens are drawn", () => {
  const reports = Array.from({ length: 200_000 }, (_, i) => ({
    epoch: i + 1,
    epochs: 200_000,
    train: { loss: 1, accuracy: 0.5 },
    validation: null,
    perturbed: false,
  }));
  expect(renderChart(reports, "long")).toContain("200000");
  const tokens = Array.from({ length: 200_000 }, (_, i) => ({ token: "a", start: 2 * i, end: 2 * i + 1, share: 0.1 }));
  const explanation = {
    label: "on",
    score: 1,
    base: 0,
    method: "occlusion",
    sum: 1,
    error: 0,
    tokens,
  } as unknown as Explanation;
  expect(renderText({ text: Buffer.from("a ".repeat(200_000)), explanation }, true)).toContain("on\t1.000000");
});

describe("the command", () => {
  test("prints the table or one JSON object, and ends with 0 whatever it finds", async () => {
    writeFileSync(at("a.tsv"), A);
    writeFileSync(at("v.tsv"), B);
    const table = await edgelabel(["data", at("a.tsv"), "--maxlen", "5"]);
    expect(table).toMatchObject({ code: 0, stderr: "" });
    expect(table.stdout).toContain(`${at("a.tsv")}:1, 3; off: ${at("a.tsv")}:4`);
    const json = await edgelabel(["data", at("a.tsv"), "--valid", at("v.tsv"), "--clean", "urls", "--json"]);
    expect(json.code).toBe(0);
    expect(JSON.parse(json.stdout)).toMatchObject({
      texts: 10,
      duplicates: { exact: 1, alike: 1 },
      overlap: { texts: 1 },
      long: { limit: 256 },
    });
    expect(await edgelabel(["data", at("absent.tsv")])).toMatchObject({ code: 1, stdout: "" });
    expect((await edgelabel(["data", at("a.tsv"), "--clean", "html"])).code).toBe(2);
  });
});

describeShared("cases of data files", () => {
  const file = (folder: string, name: string) => sharedPath("cases", folder, name);
  const said = async (folder: string, name: string, ...options: string[]) => {
    const { code, stdout, stderr } = await edgelabel(["data", file(folder, name), ...options]);
    return code === 0 ? { code, stdout } : { code, stderr: stderr.replace(file(folder, name), name) };
  };

  test.each([
    [
      "swapped.tsv",
      [],
      {
        code: 0,
        stdout: expect.stringContaining(
          "doubt       there are 6 labels, but only 2 different texts. Are label and text the wrong way round?\n",
        ),
      },
    ],
    ["sst.tsv", [], { code: 0, stdout: expect.stringContaining("6 texts, 2 labels") }],
    [
      "cola.tsv",
      [],
      {
        code: 1,
        stderr: expect.stringContaining("each line has 4 columns; without a header only label<TAB>text is read"),
      },
    ],
    [
      "pandas_tab.tsv",
      [],
      { code: 1, stderr: expect.stringContaining("line 5: a quoted field with a tab or line break") },
    ],
  ])("tsv-columns/%s %j", async (name, options, expected) =>
    expect(await said("tsv-columns", name, ...options)).toEqual(expected),
  );

  test("tsv-columns: train refuses each file, unless told its columns", async () => {
    for (const name of ["swapped", "cola", "pandas_tab"]) {
      const { code, stdout, stderr } = await edgelabel([
        "train",
        file("tsv-columns", `${name}.tsv`),
        "-o",
        at("x.wasm"),
      ]);
      expect({ code, stdout, lines: stderr.trimEnd().split("\n").length }).toEqual({ code: 1, stdout: "", lines: 1 });
    }
    expect(existsSync(at("x.wasm"))).toBe(false);
    const pandas = `label\ttext\n${readFileSync(file("tsv-columns", "pandas_tab.tsv"), "utf8")}`;
    expect(parseDataset(Buffer.from(pandas), "p.tsv", { format: "csv" }).at(-2)).toEqual({
      label: "fault",
      text: "valve stuck\nat half\tsee photo",
      line: 6,
    });
  });

  test.each(["cr.tsv", "crs.tsv", "cr.csv", "cr.ft"])("cr-line-ends/%s", async (name) => {
    expect(await said("cr-line-ends", name)).toEqual({
      code: 1,
      stderr: `edgelabel: ${name}: uses \\r as line ends, as old Mac programs do; save it with \\n, or convert it with tr '\\r' '\\n'\n`,
    });
  });

  test("label-variants: they are named, also across files", async () => {
    const { stdout } = await said("label-variants", "labels.tsv");
    expect(stdout).toContain('\n  "OK", "ok", "ok\\u200b"\n  "Sto\\u0308rung", "St\u00f6rung", "st\u00f6rung"\n');
    const across = async (a: string, b: string) =>
      (await said("label-variants", a, "--valid", file("label-variants", b))).stdout;
    expect(await across("ints.csv", "floats.csv")).toContain('\n  "0", "0.0"\n  "1", "1.0"\n');
    expect(await across("bools.csv", "bools.jsonl")).toContain('\n  "False", "false"\n  "True", "true"\n');
    const trained = await edgelabel([
      "train",
      file("label-variants", "labels.tsv"),
      "-o",
      at("v.wasm"),
      "--epochs",
      "1",
      "--set",
      "units=4",
      "--set",
      "embedding-dim=4",
      "--set",
      "min-agreement=0",
    ]);
    expect(trained.stderr).toContain(
      `the labels "OK", "ok", "ok\\u200b" look alike; if they mean the same, write them alike (${typed} data shows all)\n`,
    );
  });

  test("annotation-exports: read, or named with what to do", async () => {
    const doccano = await readDataset([file("annotation-exports", "doccano.jsonl")]);
    expect(doccano.map(({ label }) => label)).toEqual(["fault", "ok", "fault", "ok"]);
    expect(await readDataset([file("annotation-exports", "semicolon.csv")])).toEqual([
      { label: "ham", text: "hello; you", line: 2 },
      { label: "spam", text: "win now", line: 3 },
    ]);
    for (const name of ["array.json", "labelstudio_min.json"])
      expect(await said("annotation-exports", name)).toMatchObject({ code: 0 });
    expect((await readDataset([file("annotation-exports", "labelstudio_min.json")])).length).toBe(2);
  });
});

describe("a model that cleans", () => {
  const phrases = [
    "<p>Go to http://x.example/NUMBER</p>",
    "mail me at joe@x.example NUMBER",
    "Çafé sooooo ｇｏｏｄ NUMBER",
    "tüür ｶﾞ &amp; NUMBER",
  ];
  const lines = Array.from(
    { length: 40 },
    (_, i) => `label${i % 4}\t${phrases[i % 4]!.replace("NUMBER", String(i * 7919))}`,
  );
  const texts = [
    ...lines.map((line) => line.split("\t")[1]!),
    "Go to https://y.example/0 <b>",
    "tuur ガ & 99",
    "cafe soo good 1234567",
    "<a",
    "&#x1F600;",
    "Σ<b>Σ www.x.example",
  ];

  test("says so, reads alike what cleaning makes alike, and answers with the same bytes under wasmtime", async () => {
    writeFileSync(at("web.tsv"), `${lines.join("\n")}\n`);
    writeFileSync(at("texts.txt"), `${texts.join("\n")}\n`);
    const trained = await edgelabel([
      "train",
      at("web.tsv"),
      "-o",
      at("web.wasm"),
      "--set",
      "clean=all",
      "--set",
      "embedding-dim=16",
      "--set",
      "units=8",
      "--epochs",
      "8",
      "--chart",
      at("web.svg"),
      "--json",
    ]);
    expect(trained).toMatchObject({ code: 0, stderr: "" });
    expect(readFileSync(at("web.svg"), "utf8")).toMatch(/^<svg [^]*<\/svg>\n$/);
    const classifier = await openModel(at("web.wasm"));
    expect(classifier.info.tokenizer.cleaning).toEqual([
      "normalize",
      "markup",
      "urls",
      "width",
      "compose",
      "accents",
      "numbers",
      "repeats",
      "punctuation",
    ]);
    const scores = (text: string) => classifier.classify(text, 4).scores;
    expect(scores("<i>Go to</i> HTTPS://other.example?q=1")).toEqual(scores("go to www.x.example"));
    expect(scores("ＣＡＦÉ sooo good 12345678")).toEqual(scores("cafe soo good 9999"));
    expect(scores("tuur &amp; ｶﾞ")).toEqual(scores("tüür & ガ"));

    const here = spawnSync(process.execPath, [main, "predict", at("web.wasm"), "--json"], {
      input: readFileSync(at("texts.txt")),
    });
    const there = execFileSync(fetchWasmtime(), ["run", at("web.wasm"), "--json"], {
      input: readFileSync(at("texts.txt")),
    });
    expect(here.stdout.toString().trim().split("\n")).toHaveLength(texts.length);
    expect(there.equals(here.stdout)).toBe(true);
  });

  test("misused options are named", async () => {
    const train = (...args: string[]) => edgelabel(["train", at("web.tsv"), "-o", at("x.wasm"), ...args]);
    expect(await train("--set", "clean=urls,html")).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('clean takes "all", "none", or some of normalize, markup'),
    });
    expect(await train("--set", "augment-synonym=0.1")).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("augment-synonym needs synonyms"),
    });
    expect(await train("--chart", "x.png")).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("must end in .svg"),
    });
    expect(await train("--chart", at("absent/x.svg"))).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("cannot be written"),
    });
    writeFileSync(at("s.txt"), "good,very good\n");
    expect(await train("--synonyms", at("s.txt"))).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('line 1: "very good" is not one word'),
    });
  });
});
