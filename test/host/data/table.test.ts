// Tables with a label and a score added to each record: all else is byte for byte as it was.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { TEXT_CAPACITY } from "../../../assembly/abi.ts";
import { tableParts, type TableOptions } from "../../../host/data/table.ts";
import { EdgelabelError } from "../../../host/errors.ts";

/** The text's first word in capitals; unknown for "odd". */
const answer = (text: string) => ({ label: text === "odd" ? null : text.split(/\s/)[0]!.toUpperCase(), score: 0.5 });

async function* labelTable(...args: Parameters<typeof tableParts>): AsyncGenerator<string> {
  for await (const { texts, write } of tableParts(...args)) yield write(texts.map(answer));
}

async function labelled(
  content: string | Uint8Array,
  source: string,
  options: TableOptions = {},
  cuts: readonly number[] = [],
): Promise<string> {
  const bytes = Buffer.from(content);
  const chunks = (async function* () {
    let from = 0;
    for (const to of [...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]) {
      yield bytes.subarray(from, to);
      from = to;
    }
  })();
  let written = "";
  for await (const part of labelTable(chunks, source, options)) written += part;
  return written;
}

async function complaint(...args: Parameters<typeof labelled>): Promise<string> {
  try {
    await labelled(...args);
  } catch (error) {
    if (error instanceof EdgelabelError) return error.message;
    throw error;
  }
  throw new Error("no complaint");
}

describe("CSV", () => {
  test.each([
    ["commas, \\n", "id,text\n1,one two\n2,odd\n", "id,text,label,score\n1,one two,ONE,0.500000\n2,odd,?,0.500000\n"],
    [
      "semicolons, a mark, \\r\\n, no last line end",
      '\ufeffMessage;n\r\n\r\n"a;b";1\r\nb;2',
      '\ufeffMessage;n;label;score\r\n\r\n"a;b";1;"A;B";0.500000\r\nb;2;B;0.500000',
    ],
    ["tabs", "n\ttext\n1\ta\n", "n\ttext\tlabel\tscore\n1\ta\tA\t0.500000\n"],
    ["a line sep=", "sep=|\r\ntext|n\r\na|1\r\n", "sep=|\r\ntext|n|label|score\r\na|1|A|0.500000\r\n"],
    [
      "all in quotes",
      '"text","n"\n"say ""hi""\n now","1"\n',
      '"text","n","label","score"\n"say ""hi""\n now","1","SAY","0.500000"\n',
    ],
    ["a label with a quote", 'text,n\n"x""y",1\n', 'text,n,label,score\n"x""y",1,"X""Y",0.500000\n'],
    ["no text", "text,n\n ,1\n,2\n", "text,n,label,score\n ,1,,\n,2,,\n"],
    ["one column", "text\na\n", "text,label,score\na,A,0.500000\n"],
    ["no record", "text,n\n", "text,n,label,score\n"],
    ["a label already", "text,Label\na,x\n", "text,Label,predicted_label,predicted_score\na,x,A,0.500000\n"],
  ])("%s", async (_, content, expected) => expect(await labelled(content, "d.csv")).toBe(expected));

  test("is the same however the file is cut", async () => {
    const field = fc.string({ unit: fc.constantFrom("a", "é", "打", "😀", " ", ",", ";", '"', "\n", "\r\n") });
    const file = fc.record({
      rows: fc.array(fc.tuple(field, field), { minLength: 1, maxLength: 8 }),
      cuts: fc.array(fc.nat(), { maxLength: 12 }),
      end: fc.constantFrom("\n", "\r\n"),
      last: fc.boolean(),
    });
    const quote = (text: string) => `"${text.replaceAll('"', '""')}"`;
    await fc.assert(
      fc.asyncProperty(file, async ({ rows, cuts, end, last }) => {
        const row = ([a, b]: readonly string[], more: string) => `${quote(a!)};${quote(b!)}${more}`;
        const lines = rows.map((each) => row(each, ""));
        const content = ["n;text", ...lines].join(end) + (last ? end : "");
        const expected =
          [
            "n;text;label;score",
            ...rows.map((each) => {
              if (each[1].trim() === "") return row(each, ";;");
              const { label } = answer(each[1]);
              return row(each, `;${/[";\r\n]/.test(label!) ? quote(label!) : label};0.500000`);
            }),
          ].join(end) + (last ? end : "");
        expect(await labelled(content, "d.csv", {}, cuts)).toBe(expected);
      }),
    );
  });

  test("with broken records is refused with their lines, and nothing is written after the first one", async () => {
    expect(await complaint('text,n\n"a\nb",1\n\none\n"p"q,2\nr"s,3\nx,y,z\n"open,4\n', "d.csv")).toBe(
      [
        "d.csv: 5 malformed lines",
        "line 5: 1 fields where the header has 2",
        "line 6: characters after the closing quote of a field",
        "line 7: a quote inside a field that does not begin with one",
        "line 8: 3 fields where the header has 2",
        "line 9: a quoted field is never closed",
      ].join("\n  "),
    );
    const chunks = (async function* () {
      yield Buffer.from("text\na\n");
      yield Buffer.from("b,c\nd\n");
      yield Buffer.from("e\n");
    })();
    const parts: string[] = [];
    await expect(async () => {
      for await (const part of labelTable(chunks, "d.csv", {})) parts.push(part);
    }).rejects.toThrow("line 3: 2 fields");
    expect(parts).toEqual(["text,label,score\na,A,0.500000\n"]);
  });

  test("does not take an open quote for a record without end", async () => {
    const chunks = (async function* () {
      yield Buffer.from('text,n\n"open');
      for (let i = 0; i < 40; i++) yield Buffer.alloc(2 ** 20, "line\n");
      throw new Error("read on");
    })();
    await expect(async () => {
      for await (const part of labelTable(chunks, "d.csv", {})) void part;
    }).rejects.toThrow("d.csv: line 2: a quoted field is never closed");
  });

  test.each([
    ["no such column", "a;b\n1;2\n", 'its header has no column "text", only "a", "b"; give it a header if'],
    ["two of them", "title,body\n1,2\n", '"title" and "body" could both be the text; choose one with --text-column'],
    ["nothing", "", "d.csv: is empty"],
    ["blank lines", "\n\n", "d.csv: is empty"],
    ["labels twice", "text,score,predicted_label\n", "already; rename or remove one pair"],
    ["UTF-16", Buffer.from("\ufefftext\n", "utf16le"), "is UTF-16"],
    [
      "Windows-1252",
      Buffer.from("text\none\ncaf\xe9\n", "latin1"),
      'd.csv: line 3: not valid UTF-8; if it is Windows-1252, as Excel\'s plain CSV is, save it as "CSV UTF-8"',
    ],
    ["\\r alone", "text\ra\r", "a carriage return (\\r) that ends no line"],
    [
      "a long text",
      `text\n${"a".repeat(TEXT_CAPACITY + 1)}\n`,
      `line 2: the text is longer than ${TEXT_CAPACITY} bytes`,
    ],
  ])("%s is refused", async (_, content, message) => expect(await complaint(content, "d.csv")).toContain(message));

  test("takes another column by name", async () => {
    const options = { textColumn: "Body" };
    expect(await labelled("text,body\na,b\n", "d.csv", options)).toBe("text,body,label,score\na,b,B,0.500000\n");
  });
});

describe("TSV", () => {
  test("has a header, and its quotes are text", async () => {
    const content = '\ufeffid\tmessage\r\n1\t"a" b\r\n\r\n2\t\r\n';
    expect(await labelled(content, "d.tsv")).toBe(
      '\ufeffid\tmessage\tlabel\tscore\r\n1\t"a" b\t"A"\t0.500000\r\n\r\n2\t\t\t\r\n',
    );
  });
  test("names what is wrong", async () => {
    expect(await complaint("ham\tsee you\n", "d.tsv")).toContain('no column "text", only "ham", "see you"');
    expect(await complaint('text\tn\na\n"x\ty"\t1\na\rb\t1\n', "d.tsv")).toBe(
      [
        "d.tsv: 3 malformed lines",
        "line 2: 1 fields where the header has 2; if fields are in quotes, use --format csv",
        "line 3: 3 fields where the header has 2; if fields are in quotes, use --format csv",
        "line 4: a carriage return (\\r) that ends no line",
      ].join("\n  "),
    );
    expect(await complaint("", "d.tsv")).toBe("d.tsv: is empty");
  });
});

describe("JSON lines", () => {
  test("keep numbers, spaces and order as they were", async () => {
    const content =
      '{ "id": 12345678901234567890, "Text": "a } b" }\r\n\n{"Text":null}\n{"Text":"odd","x":{"y":[1.0]}}';
    expect(await labelled(content, "d.jsonl")).toBe(
      '{ "id": 12345678901234567890, "Text": "a } b" ,"label":"A","score":0.5}\r\n\n' +
        '{"Text":null,"label":null,"score":null}\n{"Text":"odd","x":{"y":[1.0]},"label":null,"score":0.5}',
    );
    expect(await labelled('{"text":"a","label":"x"}\n', "d.ndjson")).toBe(
      '{"text":"a","label":"x","predicted_label":"A","predicted_score":0.5}\n',
    );
  });
  test("name what is wrong", async () => {
    expect(
      await complaint('{"text":"a"}\n{"body":"a"}\n{"text":1}\n{"text":"a","label":"x"}\n{\n[1]\n', "d.jsonl"),
    ).toBe(
      [
        "d.jsonl: 5 malformed lines",
        'line 2: no "text", only "body"; choose one with --text-column',
        'line 3: "text" is not a string',
        'line 4: has "label" already, which the first object has not',
        "line 5: not valid JSON",
        "line 6: not a JSON object",
      ].join("\n  "),
    );
    expect(await complaint('[{"text":"a"}]', "d.json")).toContain("is a JSON array; give one object a line instead");
    expect(await complaint('{"title":"a","body":"b"}\n', "d.jsonl")).toContain("could both be the text");
  });
});

test("a format without columns, or none that a name tells, is refused", async () => {
  expect(await complaint("text\n", "d.txt")).toBe(
    "d.txt: its name does not tell its format; use --format csv|tsv|jsonl",
  );
  expect(await complaint("text\n", "d.ft")).toBe("d.ft: fasttext has no columns; use one of csv, tsv, jsonl");
  expect(await labelled("text\na\n", "d.txt", { format: "csv" })).toBe("text,label,score\na,A,0.500000\n");
});
