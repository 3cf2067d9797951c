// Data set files: every format as its users write it, and every defect named by line.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { MAX_LABEL_BYTES } from "../../../assembly/abi.ts";
import { doubtsOf, similarLabels } from "../../../host/data/report.ts";
import { type DatasetOptions, FORMATS, labelsOf, parseDataset, thinned, without } from "../../../host/data/dataset.ts";
import { readDataset } from "../../../host/data/read.ts";
import { LabelFigures } from "../../../host/data/survey.ts";
import { EdgelabelError } from "../../../host/errors.ts";
import { describeShared, sharedPath } from "../../support/shared.ts";
import { cpuSeconds } from "../../support/wait.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-dataset-"));
afterAll(() => rmSync(folder, { recursive: true }));

function parse(content: string | Uint8Array, source: string, options?: DatasetOptions) {
  return parseDataset(typeof content === "string" ? Buffer.from(content) : content, source, options);
}

function pairs(content: string | Uint8Array, source: string, options?: DatasetOptions) {
  return parse(content, source, options).map(({ label, text }) => [label, text]);
}

function labelLists(content: string, source: string, options?: DatasetOptions) {
  return parse(content, source, options).map(({ labels, text }) => [labels, text]);
}

function complaint(content: string | Uint8Array, source: string, options?: DatasetOptions): string {
  try {
    parse(content, source, options);
  } catch (error) {
    if (error instanceof EdgelabelError) return error.message;
    throw error;
  }
  throw new Error("no complaint");
}

describe("TSV", () => {
  test("splits at the first tab and keeps the text to the byte", () => {
    expect(pairs("ham\t a\tb \nspam\tx\u00a0İ😀", "d.tsv")).toEqual([
      ["ham", " a\tb "],
      ["spam", "x\u00a0İ😀"],
    ]);
  });
  test("takes a BOM, CRLF and blank lines, and keeps counting lines", () => {
    expect(parse("\ufeffa\tone\r\n\r\n  \r\nb\ttwo\r\n", "d.tsv")).toEqual([
      { label: "a", text: "one", line: 1 },
      { label: "b", text: "two", line: 4 },
    ]);
  });
  test("names each malformed line", () => {
    expect(complaint("a\tone\nno tab here\n\ttext\nb\t  \n", "d.tsv")).toBe(
      "d.tsv: 3 malformed lines\n  line 2: no tab between label and text\n  line 3: the label is empty\n  line 4: the text is empty; --skip-empty leaves out what has no label or no text",
    );
  });
  test("shows five malformed lines and counts the rest", () => {
    const message = complaint("x\n".repeat(9), "d.tsv");
    expect(message).toContain("d.tsv: 9 malformed lines\n  line 1:");
    expect(message).toContain("line 5:");
    expect(message).not.toContain("line 6:");
    expect(message).toContain("and 4 more");
  });
  test.each(["label\ttext", "text\tlabel", "Label \tText", "id\tlabel\ttext", "\ttext\tlabel"])(
    "takes columns by their names in a header: %j",
    (header) => {
      const row = header
        .split("\t")
        .map((name) => ({ label: " ham", text: "see you " })[name.trim().toLowerCase()] ?? "7")
        .join("\t");
      expect(parse(`\ufeff${header}\r\n\r\n${row}\r\n`, "d.tsv")).toEqual([
        { label: "ham", text: "see you ", line: 3 },
      ]);
    },
  );
  test("takes columns of other names, and a last text with tabs", () => {
    const options = { textColumn: "message", labelColumn: "kind" };
    expect(pairs("message\tkind\nsee you\tham\n", "d.tsv", options)).toEqual([["ham", "see you"]]);
    expect(pairs("kind\tmessage\nham\tsee\tyou\t\n", "d.tsv", options)).toEqual([["ham", "see\tyou\t"]]);
    expect(complaint("message\tkind\nsee\tyou\tham\nham\n", "d.tsv", options)).toBe(
      "d.tsv: 2 malformed lines\n  line 2: 3 fields where the header has 2\n  line 3: 1 fields where the header has 2",
    );
    expect(complaint("message\tsort\nsee you\tham\n", "d.tsv", options)).toBe(
      'd.tsv: its header has no column "kind", only "message", "sort"; choose one with --label-column',
    );
    expect(pairs("ham\tsee you\n", "d.tsv", options)).toEqual([["ham", "see you"]]);
    expect(complaint("Text\tTEXT\tlabel\n", "d.tsv")).toBe('d.tsv: its header has two columns "Text"');
  });
  test("takes a header with the usual names, and no other first line for one", () => {
    expect(pairs("Sentence\tid\tClass\nsee you\t1\tham\n", "d.tsv")).toEqual([["ham", "see you"]]);
    expect(pairs("label\ttexts\nlabel\ta text\n", "d.tsv")).toHaveLength(2);
    expect(pairs("message\tbody\n", "d.tsv")).toEqual([["message", "body"]]);
  });
  test("does not guess at columns without names", () => {
    expect(complaint("s\t1\t\tone\nt\t0\t\ttwo\n", "d.tsv")).toBe(
      "d.tsv: each line has 4 columns; without a header only label<TAB>text is read; add a header that names them, such as label<TAB>text<TAB>c<TAB>d",
    );
    expect(pairs("s\t1\t\tone\nt\t0\ttwo\n", "d.tsv")).toEqual([
      ["s", "1\t\tone"],
      ["t", "0\ttwo"],
    ]);
  });
  test("does not take fastText's labels for its own", () => {
    expect(complaint("__label__a\tone\n", "d.tsv")).toBe(
      'd.tsv: line 1: a fastText label, "__label__a"; read the file with --format fasttext',
    );
    expect(pairs("__label__a\tone\n", "d.tsv", { format: "fasttext" })).toEqual([["a", "one"]]);
  });
  test("does not take parts of a quoted field for lines and columns", () => {
    const message =
      "d.tsv: line 2: a quoted field with a tab or line break, as pandas writes it; give the file a header such as label<TAB>text if it has none, and read it with --format csv";
    for (const text of ['"see\nyou\tham"', '"see\tyou"']) {
      expect(complaint(`a\tone\nb\t${text}\n`, "d.tsv")).toBe(message);
      expect(complaint(`label\ttext\nb\t${text}\n`, "d.tsv")).toBe(message);
      expect(pairs(`label\ttext\nb\t${text}\n`, "d.tsv", { format: "csv" })).toEqual([["b", text.slice(1, -1)]]);
    }
    expect(pairs('a\t"one" two\nb\t"open\nc\tclose"\n', "d.tsv")).toEqual([
      ["a", '"one" two'],
      ["b", '"open'],
      ["c", 'close"'],
    ]);
    expect(complaint('"a"\t"one"\n', "d.tsv")).toBe(
      'd.tsv: line 1: the label "\\"a\\"" is in quotes; if the file has a header, read it with --format csv',
    );
  });
  test.each(["a\tone\rb\ttwo\r", "a\tone\rb\ttwo"])("names the line ends of old Mac programs: %j", (content) => {
    for (const format of FORMATS)
      expect(complaint(content, "d.txt", { format })).toBe(
        "d.txt: uses \\r as line ends, as old Mac programs do; save it with \\n, or convert it with tr '\\r' '\\n'",
      );
  });
  test("names carriage returns that end no line, since they may end a record", () => {
    expect(complaint("a\tone\rb\ttwo\nc\tthree\r\r\n", "d.tsv")).toBe(
      "d.tsv: 2 malformed lines\n  line 1: a carriage return (\\r) that ends no line\n  line 2: a carriage return (\\r) that ends no line",
    );
    expect(complaint("__label__a one\r__label__b two\n", "d.ft")).toContain("line 1: a carriage return");
    expect(complaint("text,label\none,a\rtwo,b\n", "d.csv")).toContain("line 2: a carriage return");
    expect(pairs("a\tone\r", "d.tsv")).toEqual([["a", "one"]]);
  });
  test("names a control character in a label", () => {
    expect(complaint("a\u0007b\tone\n", "d.tsv")).toBe(
      'd.tsv: line 1: the label "a\\u0007b" contains a control character',
    );
  });
  test("names invalid UTF-8 by line", () => {
    const bytes = Buffer.concat([
      Buffer.from("a\tone\nb\t"),
      Buffer.from([0xff]),
      Buffer.from("\nc\t"),
      Buffer.from([0xed, 0xa0, 0x80]),
    ]);
    expect(complaint(bytes, "d.tsv")).toBe(
      "d.tsv: 2 malformed lines\n  line 2: not valid UTF-8\n  line 3: not valid UTF-8; " +
        'if it is Windows-1252, as Excel\'s plain CSV is, save it as "CSV UTF-8" or convert it with iconv -f WINDOWS-1252 -t UTF-8',
    );
  });
  test.each([
    ["UTF-16 without a mark", Buffer.from("a\tone\nb\ttwo\n", "utf16le"), "is full of NUL bytes"],
    ["a compressed file", gzipSync("a\tone\n"), "is compressed; unpack it with gunzip"],
    ["a workbook", Buffer.from("PK\u0003\u0004rest"), "is a zip archive, as Excel's workbooks are"],
    [
      "an old workbook",
      Buffer.from("d0cf11e0a1b11ae1", "hex"),
      "is an Excel workbook; export the sheet as CSV in UTF-8",
    ],
  ])("names %s", (_, bytes, message) => expect(complaint(bytes, "d.tsv")).toContain(`d.tsv: ${message}`));
  test("names UTF-16", () => {
    const content = Buffer.from("\ufeffa\tone\nb\ttwo\n", "utf16le");
    expect(complaint(content, "d.tsv")).toBe("d.tsv: is UTF-16, as some Windows programs write it; save it as UTF-8");
    expect(complaint(Buffer.from(content).swap16(), "d.tsv")).toContain("is UTF-16");
  });
  test("refuses a text above the engine's capacity, in bytes", () => {
    const limit = 1048576;
    expect(parse(`a\t${"é".repeat(limit / 2)}`, "d.tsv")).toHaveLength(1);
    expect(complaint(`a\t${"é".repeat(limit / 2)}x`, "d.tsv")).toContain(`longer than ${limit} bytes`);
  });
  test("refuses a file without a text", () => {
    expect(complaint("\n\n", "d.tsv")).toBe("d.tsv: holds no labelled texts");
    expect(complaint("", "d.txt")).toBe("d.txt: holds no labelled texts");
  });
});

describe("CSV", () => {
  test("follows RFC 4180", () => {
    const content = 'id,text,label\r\n1,"a, ""b""\r\nc",x\r\n\r\n2,plain, y \r\n';
    expect(parse(content, "d.csv")).toEqual([
      { label: "x", text: 'a, "b"\r\nc', line: 2 },
      { label: "y", text: "plain", line: 5 },
    ]);
  });
  test("takes a quoted header, named columns and a last line without an end", () => {
    expect(pairs('"v1","v2"\nham,"hi"', "d.csv", { textColumn: "v2", labelColumn: "v1" })).toEqual([["ham", "hi"]]);
  });
  test("names the columns that it found", () => {
    expect(complaint("a;b\n1;2\n", "d.csv")).toBe(
      'd.csv: its header has no column "text", only "a", "b"; give it a header if that is a text, or choose one with --text-column',
    );
    expect(complaint("text|label\n1|2\n", "d.csv")).toBe(
      'd.csv: its header has no column "text", only "text|label"; separate its columns with commas, semicolons or tabs, and choose one with --text-column',
    );
    expect(complaint("text,b\n1,2\n", "d.csv")).toContain("--label-column");
    expect(complaint(`${"x".repeat(100)},\u001b[31m${",c".repeat(100)}\n`, "d.csv")).toBe(
      'd.csv: its header has no column "text", only "xxxxxxxxxxxxxxxxxxxx…", "\\u001b[31m", "c", "c", "c" and 97 more; give it a header if that is a text, or choose one with --text-column',
    );
    expect(complaint("text,text,label\n1,2,3\n", "d.csv")).toContain('two columns "text"');
  });
  test("takes a list of one label in a cell, and other JSON as it is", () => {
    const cells = ['["x"]', '{"choices":["x"]}', "[1]", '{"a":1}', "[x]"];
    const rows = cells.map((cell) => `a,"${cell.replaceAll('"', '""')}"\n`).join("");
    expect(pairs(`text,label\n${rows}`, "d.csv").map(([label]) => label)).toEqual(["x", "x", ...cells.slice(2)]);
  });
  test.each([";", "\t"])("takes columns parted by %j where the header shows it", (delimiter) => {
    const content = `\ufeffText${delimiter}label\r\n"hello${delimiter} you"${delimiter}ham\r\nwin, now${delimiter}spam\r\n`;
    expect(pairs(content, "d.csv")).toEqual([
      ["ham", `hello${delimiter} you`],
      ["spam", "win, now"],
    ]);
    if (delimiter === ";") expect(pairs(content, "d.txt")).toHaveLength(2);
  });
  test("names broken records by the line they start on", () => {
    expect(complaint('text,label\n"x\ny",a\none\n"p"q,b\nr"s,c\nt,d,e\n"open,f\n', "d.csv")).toBe(
      [
        "d.csv: 5 malformed lines",
        "line 4: 1 fields where the header has 2",
        "line 5: characters after the closing quote of a field",
        "line 6: a quote inside a field that does not begin with one",
        "line 7: 3 fields where the header has 2",
        "line 8: a quoted field is never closed",
      ].join("\n  "),
    );
  });
  test("reads back whatever a writer that quotes everything wrote", () => {
    const word = fc.string({ unit: "grapheme", minLength: 1 }).map((text) => `x${text}`);
    const quote = (text: string) => `"${text.replaceAll('"', '""')}"`;
    fc.assert(
      fc.property(fc.array(word, { minLength: 1 }), fc.constantFrom("\n", "\r\n"), (texts, end) => {
        const content = `text,label${end}${texts.map((text) => `${quote(text)},k${end}`).join("")}`;
        expect(pairs(content, "d.csv")).toEqual(texts.map((text) => ["k", text]));
      }),
    );
  });
});

describe("JSONL", () => {
  test("takes strings, and numbers as labels", () => {
    expect(pairs('{"text":"a\\tb","label":"x"}\n\n{"label":1,"text":"c","more":[]}\r\n', "d.jsonl")).toEqual([
      ["x", "a\tb"],
      ["1", "c"],
    ]);
    expect(pairs('{"t":"a","l":true}', "d.ndjson", { textColumn: "t", labelColumn: "l" })).toEqual([["true", "a"]]);
  });
  test("names what is wrong", () => {
    const message = complaint(
      '{"text":"a"}\n{"label":"x"}\n[1]\n{"text":1,"label":"x"}\n{"text":"a","label":null}\n',
      "d.jsonl",
    );
    expect(message).toBe(
      [
        "d.jsonl: 5 malformed lines",
        'line 1: no "label", only "text"; --skip-empty leaves it out',
        'line 2: no "text", only "label"; --skip-empty leaves it out',
        "line 3: not a JSON object",
        'line 4: "text" is not a string',
        "line 5: the label is empty; --skip-empty leaves out what has no label or no text",
      ].join("\n  "),
    );
    expect(complaint("{", "d.jsonl")).toContain("line 1: not valid JSON");
    expect(complaint('{"text":"\\ud800","label":"x"}', "d.jsonl")).toContain("half a surrogate pair");
    expect(complaint('{"text":"a","label":"x\\ny"}', "d.jsonl")).toContain("control character");
  });
  test("takes a list of one label, as annotation tools write it", () => {
    expect(pairs('{"text":"a","label":["x"]}', "d.jsonl")).toEqual([["x", "a"]]);
    expect(
      complaint('{"text":"a","label":["x"]}\n{"text":"a","label":[]}\n{"text":"a","label":[[0,1,"x"]]}', "d.jsonl"),
    ).toBe(
      [
        "d.jsonl: 2 malformed lines",
        'line 3: "label" is not a string',
        "line 2: the label is empty; --skip-empty leaves out what has no label or no text",
      ].join("\n  "),
    );
  });
  test("takes lists of several labels, each once, and then lists of none", () => {
    expect(
      labelLists('{"text":"a","label":["y","x","y"]}\n{"text":"b","label":[]}\n{"text":"c","label":["x"]}', "d.jsonl"),
    ).toEqual([
      [["x", "y"], "a"],
      [[], "b"],
      [undefined, "c"],
    ]);
    expect(complaint('{"text":"a","label":["y",""]}', "d.jsonl")).toContain("the label is empty");
    expect(
      pairs('{"text":"a","label":["y","x"]}\n{"text":"b","label":[]}', "d.jsonl", { skipEmpty: true }),
    ).toHaveLength(1);
  });
  test.each([
    ["csv", "text,label\na,y | x\nb,\nc,x\n"],
    ["tsv", "y|x\ta\n\tb\nx\tc\n"],
    ["jsonl", '{"text":"a","label":"y|x"}\n{"text":"b","label":""}\n{"text":"c","label":["x"]}'],
  ])("with a separator, a label in a .%s may be several, or none", (suffix, content) => {
    expect(labelLists(content, `d.${suffix}`, { labelSeparator: "|" })).toEqual([
      [["x", "y"], "a"],
      [[], "b"],
      [undefined, "c"],
    ]);
  });
  test.each(["12345678901234567890", "-9007199254740992", "1e400"])("does not round a label: %s", (label) => {
    expect(complaint(`{"text":"a","label":${label}}`, "d.jsonl")).toBe(
      "d.jsonl: line 1: the label is too large a number to be read exactly; put quotes around it",
    );
    expect(pairs(`{"text":"a","label":"${label}"}`, "d.jsonl")).toEqual([[label, "a"]]);
  });
  test("does not take an inherited property for a field", () => {
    expect(complaint('{"text":"a"}', "d.jsonl", { labelColumn: "constructor" })).toContain('no "constructor"');
  });
});

describe("fastText", () => {
  test("takes one label", () => {
    expect(pairs("__label__a one two\n__label__b\tthree\n", "d.ft")).toEqual([
      ["a", "one two"],
      ["b", "three"],
    ]);
  });
  test("names lines with none, one in the text, or nothing behind it", () => {
    expect(complaint("one\n__label__a two __label__b\n__label__a\n", "d.fasttext")).toBe(
      [
        "d.fasttext: 3 malformed lines",
        'line 2: a label behind words of the text, "__label__b"; put all labels at the beginning',
        "line 3: no text after the label",
        "line 1: does not begin with __label__; --skip-empty leaves out what has no label or no text",
      ].join("\n  "),
    );
  });
  test("may have several labels, and then lines without one", () => {
    expect(labelLists("__label__b __label__a  __label__b one\ntwo\n__label__c three\n", "d.ft")).toEqual([
      [["a", "b"], "one"],
      [[], "two"],
      [undefined, "three"],
    ]);
  });
});

describe("the format", () => {
  test.each([
    ["\n__label__a x\n", "a"],
    ['{"label":"b","text":"x"}\n', "b"],
    ["c\tx\n", "c"],
    ["id,label,text\n1,d,x\n", "d"],
  ])("of %j is seen in its first line", (content, label) => {
    expect(pairs(content, "d.txt")).toEqual([[label, "x"]]);
  });
  test("can be told, and must be when nothing shows it", () => {
    expect(pairs("text,label\nx,a\n", "d.tsv", { format: "csv" })).toEqual([["a", "x"]]);
    expect(complaint("hello\n", "d.txt")).toBe(
      "d.txt: cannot tell its format from the first line; use --format tsv|csv|jsonl|fasttext",
    );
  });
});

test("sizes at their bounds", () => {
  // The longest string that V8 can hold. An array of zeros takes no memory before it is written.
  expect(complaint(new Uint8Array(0x1fffffe8), "d.tsv")).toContain("is full of NUL bytes");
  expect(complaint(new Uint8Array(0x1fffffe9), "d.tsv")).toBe("d.tsv: larger than 512 MB; split it into several files");
  const label = "é".repeat(MAX_LABEL_BYTES / 2);
  expect(pairs(`${label}\tx\n`, "d.tsv")).toEqual([[label, "x"]]);
  expect(complaint(`${label}x\tx\n`, "d.tsv")).toContain(`the label is longer than ${MAX_LABEL_BYTES} bytes`);
  // A tenth of the beginning may be NUL.
  const nuls = (count: number) => `a\t${"\0".repeat(count)}${"x".repeat(98 - count)}`;
  expect(pairs(nuls(10), "d.tsv")).toHaveLength(1);
  expect(complaint(nuls(11), "d.tsv")).toContain("is full of NUL bytes");
  expect(pairs(`a\t${"x".repeat(5000)}${"\0".repeat(5000)}`, "d.tsv")).toHaveLength(1);
  const exact = Number.MAX_SAFE_INTEGER;
  expect(pairs(`{"text":"a","label":${exact}}`, "d.jsonl")).toEqual([[String(exact), "a"]]);
  expect(complaint(`{"text":"a","label":${exact + 1}}`, "d.jsonl")).toContain("too large a number");
});

test("a sample of a file is what none of the others has", () => {
  const sample = (text: string) => ({ label: "a", text, line: 1 });
  expect(without(["one", "two", "one"].map(sample), ["two", "three"].map(sample))).toEqual(["one", "one"].map(sample));
});

test("a line's columns in quotes with tabs are a record only where the whole file is of such", () => {
  // An unquoted rest makes the first field text with a quote in it.
  expect(pairs('a\t"x\ty"\nb\tz"z\n', "d.tsv")).toEqual([
    ["a", '"x\ty"'],
    ["b", 'z"z'],
  ]);
});

test("five columns without names are named with the first four letters, and more", () => {
  expect(complaint("s\t1\t2\t3\t4\nt\t0\t1\t2\t3\n", "d.tsv")).toContain("such as label<TAB>text<TAB>c<TAB>d<TAB>…");
  expect(complaint("s\t1\t2\nt\t0\t1\n", "d.tsv")).toMatch(/such as label<TAB>text<TAB>c$/);
  // One line shows no columns.
  expect(pairs("s\t1\t2\n", "d.tsv")).toEqual([["s", "1\t2"]]);
});

test("several files are one data set, and a missing one is named", async () => {
  const paths = ["a.tsv", "b.csv"].map((name) => join(folder, name));
  writeFileSync(paths[0]!, "b\tone\n");
  writeFileSync(paths[1]!, "text,label\ntwo,a\n");
  const samples = await readDataset(paths);
  expect(samples.map((sample) => sample.text)).toEqual(["one", "two"]);
  expect(labelsOf(samples)).toEqual(["a", "b"]);
  await expect(readDataset([join(folder, "none.tsv")])).rejects.toThrow(/none\.tsv: no such file/);
  await expect(readDataset([folder])).rejects.toThrow(/is a directory/);
});

test("of many items as many as asked for are left, evenly spread", () => {
  const items = Array.from({ length: 10 }, (_, i) => i);
  expect(thinned(items, 4)).toEqual([0, 2, 5, 7]);
  expect(thinned(items, 9)).toHaveLength(9);
  expect([thinned(items, 10), thinned(items, 11), thinned(items, 0), thinned([], 3)]).toEqual([items, items, [], []]);
});

test("time grows with the size of the file, not with its square", () => {
  const row = (i: number) => `"text ${i}, ""quoted""",label${i % 7}\n`;
  const content = Buffer.from(`text,label\n${Array.from({ length: 200_000 }, (_, i) => row(i)).join("")}`);
  // A quadratic reader needs minutes here, a linear one well under a second.
  expect(cpuSeconds(() => expect(parse(content, "d.csv")).toHaveLength(200_000))).toBeLessThan(10);
});

describe("any bytes", () => {
  const piece = fc
    .oneof(
      fc.constantFrom(
        "\t",
        "\n",
        "\r",
        "\r\n",
        ",",
        ";",
        '"',
        "__label__",
        "text",
        "label",
        "{",
        "}",
        "[",
        "]",
        ":",
        '{"text":"a","label":"x"}',
        '{"label":["a"],"text":',
        "\ufeff",
        "\u001b[31m",
        "\u0000",
        " ",
      ),
      fc.string({ unit: "binary", maxLength: 20 }),
      fc.string({ minLength: 50, maxLength: 300 }),
    )
    .map((text) => Buffer.from(text));
  const bytes = fc
    .array(
      fc.oneof(
        { weight: 9, arbitrary: piece },
        { weight: 1, arbitrary: fc.uint8Array({ maxLength: 5 }).map((part) => Buffer.from(part)) },
      ),
      { maxLength: 60 },
    )
    .map((parts) => Buffer.concat(parts));

  test.each([...FORMATS, undefined])(
    "are read as %s, or refused with a short message that a terminal can show",
    (format) => {
      fc.assert(
        fc.property(bytes, fc.constantFrom({}, { textColumn: "a", labelColumn: "\u001b" }), (content, columns) => {
          try {
            for (const { label, text } of parse(content, "d", { format, ...columns }))
              expect([label.trim(), text.trim()]).not.toContain("");
          } catch (error) {
            if (!(error instanceof EdgelabelError)) throw error;
            expect(error.message.length).toBeLessThan(1024);
            expect(error.message).not.toMatch(/(?!\n)[\p{Cc}\p{Cf}\u2028\u2029]/u);
          }
        }),
        { numRuns: 600 },
      );
    },
  );
  test("in long lines are cut out of the message", () => {
    for (const format of FORMATS)
      expect(complaint("\u009bx,\t".repeat(100_000), "d", { format }).length).toBeLessThan(1024);
  });
});

describeShared("the data sets", () => {
  test("every file: a text for each line, and no doubt about its labels", async () => {
    const files = readdirSync(sharedPath("data"), { recursive: true, encoding: "utf8" }).filter((name) =>
      name.endsWith(".tsv"),
    );
    expect(files.length).toBeGreaterThan(50);
    for (const file of files) {
      const samples = await readDataset([sharedPath("data", file)]);
      const figures = new LabelFigures();
      for (const sample of samples) figures.add(sample);
      const lines = readFileSync(sharedPath("data", file), "utf8").split("\n").length - 1;
      expect([file, samples.length, ...doubtsOf(figures), ...similarLabels(labelsOf(samples))]).toEqual([file, lines]);
    }
  });
  test.each([
    ["snips", 13784, 7],
    ["sms_spam", 4460, 2],
    ["massive_zh", 11514, 60],
  ])("%s: every line", async (name, count, classes) => {
    const samples = await readDataset([sharedPath("data", name, "train.tsv")]);
    expect(samples).toHaveLength(count);
    expect(labelsOf(samples)).toHaveLength(classes);
  });
});
