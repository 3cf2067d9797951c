// The deployable under the wasmtime CLI: the same bytes as the host prints, for any input,
// and a defined result for every odd one.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MAX_LABEL_BYTES, TEXT_CAPACITY } from "../../assembly/abi.ts";
import { Classifier } from "../../host/model/classifier.ts";
import { packModel } from "../../host/model/pack.ts";
import type { ModelForm } from "../../host/training/trainer.ts";
import { Seeded, samples, severalSamples, trainSeveral, trainTiny } from "../support/models.ts";
import { sharedIsPresent, sharedPath } from "../support/shared.ts";
import { describeWasmtime, runWasmtime } from "../support/wasmtime.ts";

const FORMS: readonly ModelForm[] = ["f32", "int8", "int8-weights"];
const engine = fileURLToPath(new URL("../../build/engine.wasm", import.meta.url));

/** Texts of every kind, none with a line end: of the tests, hostile ones, real ones where they are at hand. */
function lines(): Uint8Array[] {
  const random = new Seeded(20);
  const noise = Array.from({ length: 200 }, () =>
    Uint8Array.from({ length: random.below(60) }, () => random.below(256)).filter((byte) => byte !== 10 && byte !== 13),
  );
  const real = sharedIsPresent
    ? ["snips", "hwu64", "sms_spam", "massive_en", "massive_zh"].flatMap((set) =>
        readFileSync(sharedPath("data", set, "test.tsv"), "utf8")
          .split("\n")
          .slice(0, 200)
          .map((line) => line.split("\t")[1] ?? ""),
      )
    : [];
  const written = [
    ...samples.map(({ text }) => text),
    "",
    " ",
    "\t\t",
    "\u{1f600}\u200d\u{1f468}",
    "ΑΣ ΑΣΑ İSTANBUL",
    "\u0000\u0007\u001b[31m",
    "请打开厨房的灯",
    "ขอเพลงหน่อย",
    "\ufdfa".repeat(50),
    "word ".repeat(5000),
    "x".repeat(100_000),
    '{"text":"play"}',
    "label\tscore",
  ];
  return [...[...written, ...real].map((text) => Buffer.from(text.replaceAll(/[\r\n]/g, " "))), ...noise];
}

describeWasmtime("wasmtime run", (wasmtime) => {
  let folder: string;
  const models = new Map<ModelForm, { path: string; classifier: Classifier }>();
  const run = (args: readonly string[], input: Uint8Array | string, form: ModelForm = "int8") =>
    runWasmtime(wasmtime, models.get(form)!.path, args, input);

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "edgelabel-wasi-"));
    const trainer = await trainTiny();
    for (const form of FORMS) {
      const bytes = await packModel(trainer.write(form));
      const path = join(folder, `${form}.wasm`);
      writeFileSync(path, bytes);
      models.set(form, { path, classifier: await Classifier.fromBytes(bytes, path) });
    }
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test.each([
    ["text", [], { json: false, top: 0 }],
    ["--top 2", ["--top", "2"], { json: false, top: 2 }],
    ["--json", ["--json"], { json: true, top: 0 }],
    ["--json --top 1", ["--json", "--top", "1"], { json: true, top: 1 }],
  ] as const)("several labels a text, %s: the bytes of Node", async (_name, args, format) => {
    const bytes = await packModel((await trainSeveral({ linear: true })).write("int8"));
    const path = join(folder, "several.wasm");
    writeFileSync(path, bytes);
    const classifier = await Classifier.fromBytes(bytes, path);
    const texts = [...severalSamples.map(({ text }) => Buffer.from(text)), ...lines()];
    const own = Buffer.concat(texts.map((text) => classifier.line(text, format)));
    const { stdout } = runWasmtime(wasmtime, path, args, Buffer.concat(texts.map((text) => Buffer.concat([text, Buffer.from("\n")])))); // prettier-ignore
    expect(Buffer.compare(stdout, own)).toBe(0);
  });

  describe.each(FORMS)("%s", (form) => {
    test.each([
      ["text", [], { json: false, top: 0 }],
      ["--top 2", ["--top", "2"], { json: false, top: 2 }],
      ["--json", ["--json"], { json: true, top: 0 }],
      ["--json --top 1", ["--json", "--top", "1"], { json: true, top: 1 }],
    ] as const)("%s: the bytes of Node", (_name, args, format) => {
      const texts = lines();
      const { classifier } = models.get(form)!;
      const expected = Buffer.concat(texts.map((text) => classifier.line(text, format)));
      const { status, stdout } = run(args, Buffer.concat(texts.flatMap((text) => [text, Buffer.from("\n")])), form);
      expect(status).toBe(0);
      expect(stdout.length).toBe(expected.length);
      expect(stdout.equals(expected)).toBe(true);
    });
  });

  const expectLines = (input: string | Uint8Array, texts: readonly (string | Uint8Array)[]) => {
    const { status, stdout, stderr } = run([], input);
    const { classifier } = models.get("int8")!;
    expect(stdout.toString()).toBe(
      Buffer.concat(texts.map((text) => classifier.line(Buffer.from(text), { json: false, top: 0 }))).toString(),
    );
    expect(status).toBe(0);
    return stderr;
  };

  test("no input gives no output", () => expect(expectLines("", [])).toBe(""));
  test("an empty line is classified", () => expect(expectLines("\n\n", ["", ""])).toBe(""));
  test("a last line needs no end", () =>
    expect(expectLines("play some jazz\nwill it rain", ["play some jazz", "will it rain"])).toBe(""));
  test("a carriage return before the end, and NULs, are no part of the text", () =>
    expect(expectLines("play\r\nrain\0\0\n\r\n", ["play", "rain", ""])).toBe(""));
  test("broken UTF-8 is classified", () =>
    expect(
      expectLines(Buffer.from([0xff, 0xff, 0x0a, 0xe4, 0xbd, 0x0a]), [
        Buffer.from([0xff, 0xff]),
        Buffer.from([0xe4, 0xbd]),
      ]),
    ).toBe(""));
  test("a byte order mark at the start is dropped, from a long line too", () => {
    expect(expectLines("\ufeffplay some jazz\nrain\n", ["play some jazz", "rain"])).toBe("");
    expect(expectLines("\ufeff", [""])).toBe("");
    expect(
      expectLines(`\ufeff${"a ".repeat(TEXT_CAPACITY / 2 - 3)}jazz\n`, [`${"a ".repeat(TEXT_CAPACITY / 2 - 3)}jaz`]),
    ).toMatch("is longer than");
  });
  test.each(["utf16le", "swapped"])("UTF-16 is refused: %s", (order) => {
    const input = Buffer.from("\ufeffplay\nrain\n", "utf16le");
    const { status, stdout, stderr } = run([], order === "swapped" ? input.swap16() : input);
    expect([status, stdout.toString(), stderr]).toEqual([
      1,
      "",
      "edgelabel: standard input: is UTF-16, as some Windows programs write it; save it as UTF-8\n",
    ]);
  });
  test("line ends that are carriage returns alone are refused", () => {
    const { status, stdout, stderr } = run([], "play\rrain\r");
    expect([status, stdout.toString(), stderr]).toEqual([
      1,
      "",
      "edgelabel: standard input: uses \\r as line ends, as old Mac programs do; save it with \\n, or convert it with tr '\\r' '\\n'\n",
    ]);
    expect(expectLines("play\r", ["play"])).toBe("");
  });

  test("a line of 1 MiB is classified whole, of a longer one the beginning, with a note", () => {
    const whole = `${"a ".repeat(TEXT_CAPACITY / 2 - 2)}jazz`;
    expect(Buffer.byteLength(whole)).toBe(TEXT_CAPACITY);
    expect(expectLines(`${whole}\nplay\n`, [whole, "play"])).toBe("");
    const note = expectLines(`${whole}${" rain".repeat(50_000)}\nplay\n`, [whole, "play"]);
    expect(note).toBe(`edgelabel: a line is longer than ${TEXT_CAPACITY} bytes; its beginning was classified\n`);
  });

  test("the note comes between the answers before and that of its line", () => {
    const { stdout } = spawnSync("bash", ["-c", '"$1" run "$2" 2>&1', "bash", wasmtime, models.get("int8")!.path], {
      input: `play\n${"a ".repeat(TEXT_CAPACITY)}\nrain\n`,
      encoding: "utf8",
    });
    expect(stdout.split("\n").map((line) => line.startsWith("edgelabel: "))).toEqual([
      false,
      true,
      false,
      false,
      false,
    ]);
  });

  test("answers longer than what is written at once, among short ones: the bytes of Node", async () => {
    const data = Array.from({ length: 40 }, (_, i) => ({
      label: String(i).padStart(MAX_LABEL_BYTES, "l"),
      text: `play number ${i}`,
      file: "",
      line: i + 1,
    }));
    const bytes = await packModel((await trainTiny({ epochs: 1 }, data)).write("int8"));
    const path = join(folder, "long.wasm");
    writeFileSync(path, bytes);
    const classifier = await Classifier.fromBytes(bytes, path);
    for (const top of [1, 15, 40]) {
      const own = Buffer.concat(data.map(({ text }) => classifier.line(Buffer.from(text), { json: true, top })));
      const { stdout } = runWasmtime(wasmtime, path, ["--json", "--top", String(top)], data.map(({ text }) => `${text}\n`).join("")); // prettier-ignore
      expect(stdout.equals(own)).toBe(true);
    }
  });

  test("answers a line before the next one comes", async () => {
    const child = spawn(wasmtime, ["run", models.get("int8")!.path]);
    try {
      for (const text of ["play some jazz", "", "will it rain today"]) {
        child.stdin.write(`${text}\n`);
        const [answer] = (await once(child.stdout, "data")) as [Buffer];
        expect(answer.toString()).toBe(
          Buffer.from(models.get("int8")!.classifier.line(Buffer.from(text), { json: false, top: 0 })).toString(),
        );
      }
      child.stdin.end();
      expect((await once(child, "exit"))[0]).toBe(0);
    } finally {
      child.kill();
    }
  });

  test("a closed pipe is a clean end, a full disk is not", () => {
    const shell = (command: string) =>
      spawnSync("bash", ["-c", command, "bash", wasmtime, models.get("int8")!.path], { encoding: "utf8" });
    const closed = shell('yes play | "$1" run "$2" | head -n 2; echo "${PIPESTATUS[1]}"');
    expect(closed.stdout.split("\n").slice(2)).toEqual(["0", ""]);
    expect(closed.stderr).toBe("");
    const full = shell('echo play | "$1" run "$2" > /dev/full; echo "$?"');
    expect(full.stdout).toBe("1\n");
    expect(full.stderr).toContain("cannot write standard output");
  });

  test("--help tells how to use it", () => {
    const { status, stdout } = run(["--help"], "");
    expect(status).toBe(0);
    expect(stdout.toString()).toContain("usage: wasmtime run MODEL.wasm [--json] [--top N] < lines");
  });

  test.each([["--nope"], ["--top"], ["--top", "0"], ["--top", "x"], ["--top", "10000"], ["text"]])(
    "misuse: %s %s",
    (...args) => {
      const { status, stdout, stderr } = run(args.filter(Boolean), "play\n");
      expect([status, stdout.toString()]).toEqual([2, ""]);
      expect(stderr).toMatch(/^edgelabel: /);
    },
  );

  test("the engine without a model says what to do", () => {
    const { status, stderr } = runWasmtime(wasmtime, engine, [], "play\n");
    expect(status).toBe(1);
    expect(stderr).toBe(
      "edgelabel: this module holds no model; pack one with: edgelabel pack MODEL.elb -o MODEL.wasm\n",
    );
  });
});
