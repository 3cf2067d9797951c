// The files that spreadsheets, pandas, hubs and annotation tools write: what docs/data.md says of each is so.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { type DatasetOptions, parseDataset } from "../../../host/data/dataset.ts";
import { EdgelabelError } from "../../../host/errors.ts";

interface Shape {
  /** What the first column of the table in docs/data.md says. */
  row: string;
  name: string;
  content: string | Uint8Array;
  options?: DatasetOptions;
  /** Label and text of each sample, or a part of the message. */
  expected: [string, string][] | string;
}

const MARK = "\ufeff";
const latin1 = (text: string) => Buffer.from(text, "latin1");
const NOT_UTF8 = 'not valid UTF-8; if it is Windows-1252, as Excel\'s plain CSV is, save it as "CSV UTF-8"';

const shapes: Shape[] = [
  {
    row: "Excel in English",
    name: "CSV UTF-8",
    content: `${MARK}Text,Label\r\n"Café closed, sorry",info\r\n"He said ""stop""",alarm\r\n`,
    expected: [
      ["info", "Café closed, sorry"],
      ["alarm", 'He said "stop"'],
    ],
  },
  {
    row: "Excel in English",
    name: "plain CSV",
    content: latin1("Text,Label\r\nCafé closed,info\r\n"),
    expected: `shape.csv: line 2: ${NOT_UTF8}`,
  },
  {
    row: "Excel in English",
    name: "workbook",
    content: "PK\u0003\u0004\u0014",
    expected: "is a zip archive, as Excel's workbooks are; unpack it, or export the sheet as CSV in UTF-8",
  },
  {
    row: "Excel in German",
    name: "CSV UTF-8, with empty rows below",
    content: `${MARK}Message;Category;Wert\r\nHeizung läuft, aber kalt;klima;0,5\r\n"Licht; aus";licht;1,25\r\n;;\r\n`,
    options: { skipEmpty: true },
    expected: [
      ["klima", "Heizung läuft, aber kalt"],
      ["licht", "Licht; aus"],
    ],
  },
  {
    row: "Excel in German",
    name: "CSV UTF-8, with empty rows below, which nobody told to leave out",
    content: `${MARK}Message;Category;Wert\r\nLicht aus;licht;1,25\r\n;;\r\n`,
    expected: "shape.csv: line 3: the label is empty; --skip-empty leaves out what has no label or no text",
  },
  {
    row: "Excel in German",
    name: "German names",
    content: `${MARK}Meldung;Art\r\nLicht aus;licht\r\n`,
    expected: 'its header has no column "text", only "Meldung", "Art"; give it a header if that is a text, or choose',
  },
  {
    row: "Excel in German",
    name: "German names, told",
    content: `${MARK}Meldung;Art\r\nLicht aus;licht\r\n`,
    options: { textColumn: "meldung", labelColumn: "art" },
    expected: [["licht", "Licht aus"]],
  },
  {
    row: "Excel in Japanese",
    name: "CSV UTF-8",
    content: `${MARK}text,label\r\n電気を消して,照明\r\n`,
    expected: [["照明", "電気を消して"]],
  },
  {
    row: "Excel in Japanese",
    name: "plain CSV, in Shift_JIS",
    content: Buffer.concat([
      Buffer.from("text,label\r\n"),
      Buffer.from("936482f08fc182b5", "hex"),
      Buffer.from(",a\r\n"),
    ]),
    expected: `shape.csv: line 2: ${NOT_UTF8}`,
  },
  {
    row: "Excel in Japanese",
    name: "Unicode text",
    content: Buffer.from(`${MARK}text\tlabel\r\n電気\t照明\r\n`, "utf16le"),
    expected: "is UTF-16, as some Windows programs write it; save it as UTF-8",
  },
  ...[";", ",", "\t", "|", "^"].map((delimiter) => ({
    row: "a first line `sep=;`",
    name: JSON.stringify(delimiter),
    content: `${MARK}sep=${delimiter}\r\nText${delimiter}Label\r\n"a${delimiter}b"${delimiter}x\r\nc;d${delimiter === ";" ? `;"y"` : `${delimiter}y`}\r\n`,
    expected:
      delimiter === ";"
        ? "line 4: 3 fields where the header has 2"
        : ([
            ["x", `a${delimiter}b`],
            ["y", "c;d"],
          ] as [string, string][]),
  })),
  {
    row: "pandas",
    name: "to_csv()",
    content: ',text,label\n0,"two\nlines",x\n1,"a, b",y\n',
    expected: [
      ["x", "two\nlines"],
      ["y", "a, b"],
    ],
  },
  { row: "pandas", name: 'to_csv(sep="\\t")', content: "\ttext\tlabel\n0\tone\tx\n", expected: [["x", "one"]] },
  {
    row: "pandas",
    name: 'to_json(orient="records")',
    content: '[{"text":"one","label":0},{"text":"two \\u00e9","label":1}]',
    expected: [
      ["0", "one"],
      ["1", "two é"],
    ],
  },
  {
    row: "pandas",
    name: 'to_json(orient="records", lines=True)',
    content: '{"text":"one","label":true}\n',
    expected: [["true", "one"]],
  },
  {
    row: "pandas",
    name: "to_json()",
    content: '{"text":{"0":"one"},"label":{"0":"x"}}',
    expected: 'line 1: "text" is an object; pandas writes one text a line with to_json(orient="records", lines=True)',
  },
  {
    row: "pandas",
    name: "to_csv(header=False)",
    content: "one,x\ntwo,y\n",
    expected: 'its header has no column "text", only "one", "x"; give it a header if that is a text, or choose',
  },
  {
    row: "pandas",
    name: "a missing label",
    content: '[{"text":"one","label":null},\n{"text":"two","label":"x"}]',
    expected: "line 1: the label is empty; --skip-empty leaves out what has no label or no text",
  },
  {
    row: "Hugging Face",
    name: "an array, its labels as numbers",
    content:
      '[\n  {\n    "text": "it is [not], {good}",\n    "label": 0\n  },\n  { "text": "a \\"b\\\\", "label": 1 }\n]\n',
    expected: [
      ["0", "it is [not], {good}"],
      ["1", 'a "b\\'],
    ],
  },
  {
    row: "Hugging Face",
    name: "sentence and label",
    content: '{"sentence":"fine","label":1,"idx":0}\n',
    expected: [["1", "fine"]],
  },
  {
    row: "Hugging Face",
    name: "utterance and intent",
    content: "utterance\tintent\nlamp on\tlight\n",
    expected: [["light", "lamp on"]],
  },
  {
    row: "Hugging Face",
    name: "two columns that could be the text",
    content: '{"question":"Who?","sentence":"He.","label":1}\n',
    expected: '"question" and "sentence" could both be the text; choose one with --text-column',
  },
  {
    row: "Label Studio",
    name: "JSON-MIN",
    content:
      '[{"text":"great","id":1,"sentiment":"Positive","annotator":1,"annotation_id":1,"created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00Z","lead_time":2.5}]',
    expected: [["Positive", "great"]],
  },
  {
    row: "Label Studio",
    name: "CSV",
    content:
      'annotation_id,annotator,created_at,id,lead_time,sentiment,text,updated_at\n1,1,x,1,2.5,Positive,"great, really",x\n',
    expected: [["Positive", "great, really"]],
  },
  {
    row: "Label Studio",
    name: "several choices",
    content: '[{"text":"a","sentiment":"x"},\n{"text":"b","sentiment":{"choices":["x","y"]}}]',
    expected: [
      ["x", "a"],
      ["x\ny", "b"],
    ],
  },
  {
    row: "Label Studio",
    name: "several choices in a cell",
    content: 'text,sentiment\na,x\nb,"{""choices"":[""x"",""y""]}"\n',
    expected: [
      ["x", "a"],
      ["x\ny", "b"],
    ],
  },
  {
    row: "Label Studio",
    name: "a task without an answer",
    content: '[{"text":"a","sentiment":"x"},\n\n{"text":"b","id":2}]',
    expected: 'line 3: no "sentiment", only "text", "id"; --skip-empty leaves it out',
  },
  {
    row: "Label Studio",
    name: "a task without an answer, left out",
    content: '[{"text":"b","id":2},{"text":"a","sentiment":"x"}]',
    options: { skipEmpty: true },
    expected: [["x", "a"]],
  },
  {
    row: "Label Studio",
    name: "JSON with all annotations",
    content: '[{"id":1,"annotations":[{"result":[]}],"data":{"text":"a"}}]',
    expected: "is Label Studio's JSON with all annotations; export it as JSON-MIN or CSV",
  },
  {
    row: "Doccano",
    name: "JSONL",
    content: '{"id":1,"text":"a","label":["x"],"Comments":[]}\n{"id":2,"text":"b","label":["y"],"Comments":[]}\n',
    expected: [
      ["x", "a"],
      ["y", "b"],
    ],
  },
  { row: "Doccano", name: "JSON", content: '[{"id":1,"text":"a","label":["x"]}]', expected: [["x", "a"]] },
  {
    row: "Doccano",
    name: "several labels, or none",
    content: '{"text":"a","label":["x","y"]}\n{"text":"b","label":[]}\n',
    expected: [
      ["x\ny", "a"],
      ["", "b"],
    ],
  },
  {
    row: "Doccano",
    name: "one label, or none",
    content: '{"text":"a","label":["x"]}\n{"text":"b","label":[]}\n',
    expected: "line 2: the label is empty; --skip-empty",
  },
  {
    row: "Doccano",
    name: "spans",
    content: '{"text":"a b","label":[[0,1,"x"]]}\n',
    expected: 'line 1: "label" is not a string',
  },
  {
    row: "Kaggle",
    name: "Category,Message",
    content: 'Category,Message\nham,"Go until jurong point, crazy.."\n',
    expected: [["ham", "Go until jurong point, crazy.."]],
  },
  {
    row: "Kaggle",
    name: "review,sentiment",
    content: 'review,sentiment\n"One of the other reviewers<br />",positive\n',
    expected: [["positive", "One of the other reviewers<br />"]],
  },
  {
    row: "Kaggle",
    name: "more columns than two",
    content: "id,keyword,location,text,target\n1,,,Forest fire,1\n",
    expected: [["1", "Forest fire"]],
  },
  {
    row: "Kaggle",
    name: "v1,v2 in Windows-1252",
    content: latin1('v1,v2,,,\r\nham,"£1000 prize",,,\r\n'),
    expected: `shape.csv: line 2: ${NOT_UTF8}`,
  },
  {
    row: "Kaggle",
    name: "v1,v2 saved as UTF-8",
    content: 'v1,v2,,,\r\nham,"£1000 prize",,,\r\n',
    options: { textColumn: "v2", labelColumn: "v1" },
    expected: [["ham", "£1000 prize"]],
  },
  {
    row: "Kaggle",
    name: "a title and a description",
    content: "Class Index,Title,Description\n3,Wall St.,Reuters\n",
    expected: '"Title" and "Description" could both be the text; choose one with --text-column',
  },
];

/** By the content, as the tools name their files. */
function fileName(content: string | Uint8Array): string {
  const start = Buffer.from(content).toString();
  return `shape.${/^\s*[[{]/.test(start) ? "json" : /^[^\n]*\t/.test(start) && !/sep=/.test(start) ? "tsv" : "csv"}`;
}

test.each(shapes)("$row: $name", ({ content, options, expected }) => {
  const parse = () =>
    parseDataset(Buffer.from(content), fileName(content), options).map(({ label, text }) => [label, text]);
  if (typeof expected !== "string") expect(parse()).toEqual(expected);
  else {
    expect(parse).toThrow(EdgelabelError);
    expect(parse).toThrow(expected);
  }
});

test("docs/data.md has a row for each", () => {
  const page = readFileSync(new URL("../../../docs/data.md", import.meta.url), "utf8");
  const rows = [...page.matchAll(/^\| ([^|]+) \|[^|]+\|[^|]+\|$/gm)].map(([, first]) => first!.trim());
  expect(rows.slice(1)).toEqual([...new Set(shapes.map(({ row }) => row))]);
});

describe("what is left out", () => {
  test("is counted, file by file, and is nothing where all is there", () => {
    const told: unknown[] = [];
    const options = { skipEmpty: true, onSkipped: (...args: unknown[]) => void told.push(args) };
    const read = (content: string, name: string) => parseDataset(Buffer.from(content), name, options).length;
    expect(read("text,label\na,x\n , \n,x\nb,\n", "a.csv")).toBe(1);
    expect(read("x\ta\nx\t \n", "b.tsv")).toBe(1);
    expect(read('{"text":"a","label":[]}\n{"text":null,"label":"x"}\n{"text":"b","label":"x"}\n', "c.jsonl")).toBe(1);
    expect(read("x\ta\n", "d.tsv")).toBe(1);
    expect(told).toEqual([
      [3, "a.csv"],
      [1, "b.tsv"],
      [2, "c.jsonl"],
    ]);
  });
  test("is never all of a file, nor what a key's other spelling hides", () => {
    const options = { skipEmpty: true };
    expect(() => parseDataset(Buffer.from("text,label\n,\n"), "a.csv", options)).toThrow("holds no labelled texts");
    expect(() => parseDataset(Buffer.from('{"text":"a","lable":"x"}\n'), "a.jsonl", options)).toThrow(
      'line 1: no "label", only "text", "lable"; choose one with --label-column',
    );
  });
});

describe("a JSON array", () => {
  const read = (content: string) => parseDataset(Buffer.from(content), "a.json");
  test("names the line that each object begins on", () => {
    const content = ' \n[{"text":"a",\n"label":"x"}\n,\n\n {"text":"b","label":"y"},{"text":"c","label":"z"}\n]\n';
    expect(read(content).map(({ line }) => line)).toEqual([2, 6, 6]);
  });
  test.each([
    ["[]", "holds no labelled texts"],
    ['[{"text":"a","label":"x"},]', "line 1: not valid JSON"],
    ['[\n{"text":"a","label":"x"}\n{"text":"b","label":"x"}]', "line 2: not valid JSON"],
    ['[{"text":"a","label":"x"}\n', "line 1: the array is not closed"],
    ['[{"text":"a","label":"x"},\n{"text":"b', "line 1: the array is not closed"],
    ['[{"text":"a","label":"x"}]\n\n[]', "line 3: more behind the end of the array"],
    ['["a",\n"b"]', "2 malformed lines\n  line 1: not a JSON object\n  line 2: not a JSON object"],
    ['{\n"data": [{"text":"a","label":"x"}]\n}', 'is one JSON object, with "data"; give an array of objects'],
    ['{\n"data":', "2 malformed lines\n  line 1: not valid JSON"],
  ])("%j: %s", (content, message) => expect(() => read(content)).toThrow(message));
});

describe("columns", () => {
  const read = (content: string, options?: DatasetOptions) =>
    parseDataset(Buffer.from(content), "a.csv", options).map(({ label, text }) => [label, text]);
  test("named text and label come before others with usual names", () => {
    expect(read("title,text,category,label\nt,a,c,x\n")).toEqual([["x", "a"]]);
    expect(read("Title,TEXT,category\nt,a,x\n")).toEqual([["x", "a"]]);
  });
  test("asked for as one are not the other", () => {
    expect(read("title,body,n\nx,a,1\n", { labelColumn: "title" })).toEqual([["x", "a"]]);
    expect(read("title,body,intent\nt,a,x\n", { textColumn: "body" })).toEqual([["x", "a"]]);
  });
  test("of one kind that are two are refused, not chosen from", () => {
    expect(() => read("text,intent,topic\na,x,y\n")).toThrow(
      'a.csv: "intent" and "topic" could both be the label; choose one with --label-column',
    );
    expect(() => read("text,Intent,intent \na,x,y\n")).toThrow('its header has two columns "Intent"');
  });
});
