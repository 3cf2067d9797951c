// What the page shows of a file before it is read: its first rows, and which columns are probably text and label.
import { describe, expect, test } from "vitest";
import { parseDataset } from "../../host/data/dataset.ts";
import { type Preview, previewOf } from "../../web/playground/preview.ts";

const usual = { text: "text", label: "label" };

test.each<[string, string, string, Preview]>([
  ["CSV", "a.csv", "label,text\non,lamp on\n", { columns: ["label", "text"], ...usual, rows: [["on", "lamp on"]] }],
  [
    "quoted CSV",
    "",
    'text,label\n"a, ""b""\nc",on\n',
    { columns: ["text", "label"], ...usual, rows: [['a, "b"\nc', "on"]] },
  ],
  [
    "semicolons",
    "a.csv",
    "Text;Label\na;b\n",
    { columns: ["Text", "Label"], text: "Text", label: "Label", rows: [["a", "b"]] },
  ],
  ["Excel's separator", "", "sep=|\ntext|label\na|b\n", { columns: ["text", "label"], ...usual, rows: [["a", "b"]] }],
  [
    "unusual names",
    "a.csv",
    "id,message,kind\n1,hello,greeting\n",
    { columns: ["id", "message", "kind"], text: "message", label: undefined, rows: [["1", "hello", "greeting"]] },
  ],
  ["TSV with a header", "", "text\tlabel\na\tb\n", { columns: ["text", "label"], ...usual, rows: [["a", "b"]] }],
  ["TSV without one", "a.tsv", "on\tlamp on\tnow\n", { columns: [], rows: [["on", "lamp on\tnow"]] }],
  [
    "fastText",
    "",
    "__label__on lamp on\n__label__off\n",
    {
      columns: [],
      rows: [
        ["on", "lamp on"],
        ["off", ""],
      ],
    },
  ],
  [
    "JSON lines",
    "a.jsonl",
    '{"text": "a", "n": 1}\n{"label": "on"}\nno json\n',
    {
      columns: ["text", "n", "label"],
      ...usual,
      rows: [
        ["a", "1", ""],
        ["", "", "on"],
      ],
    },
  ],
  [
    "a JSON array",
    "",
    ' [{"text": "a", "label": ["on"]}]',
    { columns: ["text", "label"], ...usual, rows: [["a", "on"]] },
  ],
  [
    "several labels a text",
    "a.ft",
    "__label__on __label__urgent lamp on\nnothing\n__label__off dark",
    {
      columns: [],
      rows: [
        ["on, urgent", "lamp on"],
        ["", "nothing"],
        ["off", "dark"],
      ],
    },
  ],
  [
    "a broken record",
    "a.csv",
    'label,text\na,b"c\nd,e\n',
    { columns: ["label", "text"], ...usual, rows: [["d", "e"]] },
  ],
  ["nothing", "", "\n \n", { columns: [], text: undefined, label: undefined, rows: [] }],
])("%s", (_, name, content, preview) => {
  expect(previewOf(content, name)).toEqual(preview);
});

describe("the columns that it finds are those that the reader takes", () => {
  test.each([
    "label,text\non,lamp\n",
    "Category;Message\non;lamp\n",
    "intent\tutterance\non\tlamp\n",
    '{"tag": "on", "body": "lamp"}\n',
  ])("%j", (content) => {
    const { text, label } = previewOf(content, "pasted texts");
    const read = parseDataset(Buffer.from(content), "pasted texts", { textColumn: text, labelColumn: label });
    expect(read.map((sample) => [sample.label, sample.text])).toEqual([["on", "lamp"]]);
  });
});

test("five rows are shown, of a file of any size", () => {
  const rows = Array.from({ length: 100_000 }, (_, i) => `on,text ${i}`).join("\n");
  expect(previewOf(`label,text\n${rows}`, "").rows).toHaveLength(5);
  expect(previewOf(rows.replaceAll(",", "\t"), "").rows).toHaveLength(5);
});
