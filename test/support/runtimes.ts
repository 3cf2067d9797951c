// What the clients of examples/ are tried with: models, a thousand real texts and odd ones, and the answers that
// the host gives. A client whose runtime cannot be had is skipped, loudly; under CI=true it fails.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ERR_BAD_CHECKSUM, ERR_NO_MODEL, TEXT_CAPACITY } from "../../assembly/abi.ts";
import { openModel } from "../../host/model/file.ts";
import { packModel } from "../../host/model/pack.ts";
import { Trainer } from "../../host/training/trainer.ts";
import { describeFetched } from "./fetched.ts";
import { importGolden } from "./golden.ts";
import { samples, trainTiny } from "./models.ts";
import { sharedIsPresent, sharedPath } from "./shared.ts";

const SETS = ["snips", "hwu64", "sms_spam", "massive_en", "massive_zh"];
const LINES_A_SET = 200;

const ODD: readonly (string | number[])[] = [
  "",
  "\0",
  "turn on\0the light",
  "play some jazz\0\0",
  "play some jazz\r",
  "play some\rjazz",
  "play some jazz\0\r",
  "\ufeffwill it rain today",
  " \t ",
  "x",
  [0xff, 0xfe, 0x41],
  [0xc3, 0x28, 0x20, 0xe2, 0x82],
  [0xed, 0xa0, 0x80, 0x20, 0xf4, 0x90, 0x80, 0x80, 0xc0, 0x80],
  "\u001b[1mstop\u001b[0m the music \u0007",
  "😀👍🏽👩‍👩‍👧‍👦🇹🇭 #️⃣ light",
  "เปิดไฟในห้องนั่งเล่นหน่อย",
  "打印机坏了，没反应",
  "شغّل الموسيقى من فضلك",
  "ÀÉÎÕÜ İıŞş Ωμέγα ПРИВЕТ",
  "<b>&amp;</b> https://example.org/a?b=c me@example.org 1234567.5",
  "light ".repeat(5000),
  "灯".repeat(3000),
  "x".repeat(100_000),
  "turn on the light ".repeat(TEXT_CAPACITY / 16).slice(0, TEXT_CAPACITY),
];

export interface Subject {
  path: string;
  /** One line of JSON for each of the texts. */
  answers: Buffer;
}

/** No text has a line end in it. */
export const texts: readonly Buffer[] = [
  ...ODD.map((text) => Buffer.from(text as string)),
  ...samples.map(({ text }) => Buffer.from(text)),
  ...(sharedIsPresent ? SETS : []).flatMap((set) =>
    readFileSync(sharedPath("data", set, "test.tsv"), "utf8")
      .split("\n")
      .slice(0, LINES_A_SET)
      .map((line) => Buffer.from(line.split("\t")[1]!)),
  ),
];

const folder = mkdtempSync(join(tmpdir(), "edgelabel-runtimes-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let subjects: Promise<Subject[]> | undefined;

const lines = Buffer.concat(texts.flatMap((text) => [text, Buffer.from("\n")]));

/** Deployables, the same for all tests of a file. */
export function madeSubjects(): Promise<Subject[]> {
  return (subjects ??= makeSubjects());
}

async function makeSubjects(): Promise<Subject[]> {
  const files = [(await trainTiny()).write("int8")];
  if (sharedIsPresent) {
    const trainer = await Trainer.open(await importGolden("model-snips-masked-bidirectional"), "golden");
    trainer.buildOpened();
    files.push(trainer.write("int8"), trainer.write("f32"));
  }
  return Promise.all(
    files.map(async (file, i) => {
      const path = join(folder, `model-${i}.wasm`);
      writeFileSync(path, await packModel(file));
      const classifier = await openModel(path);
      return { path, answers: Buffer.concat(texts.map((text) => classifier.line(text, { json: true, top: 0 }))) };
    }),
  );
}

/** Java compiles the engine for minutes. */
const CLIENT_MS = 900_000;

/** The tests of a client; `fetch` gives the command line that a model file is appended to. */
export function describeClient(name: string, fetch: () => readonly string[]): void {
  describeFetched(name, "its runtime", fetch, (command) => {
    const run = (model: string, input: Uint8Array) => {
      const [program, ...args] = command;
      return spawnSync(program!, [...args, model], { input, maxBuffer: 1 << 28 });
    };

    let subjects: Subject[];
    beforeAll(async () => {
      subjects = await madeSubjects();
    });

    test("gives the bytes of Node", { timeout: CLIENT_MS }, () => {
      expect(sharedIsPresent ? texts.length : Infinity).toBeGreaterThan(SETS.length * LINES_A_SET);
      for (const { path, answers } of subjects) {
        const { status, stdout, stderr } = run(path, lines);
        expect([status, status === 0 ? "" : stderr.toString()]).toEqual([0, ""]);
        expect(stdout.equals(answers), path).toBe(true);
      }
    });

    test("refuses a text above 1 MiB, a file without a model and a damaged one", { timeout: CLIENT_MS }, () => {
      const { path } = subjects[0]!;
      const refused = (model: string, input = "x\n") => {
        const { status, stderr } = run(model, Buffer.from(input));
        return status === 0 ? "" : stderr.toString();
      };
      expect(refused(path, `${"x".repeat(TEXT_CAPACITY + 1)}\n`)).toContain("the text is longer than 1 MiB");
      expect(refused(new URL("../../build/engine.wasm", import.meta.url).pathname)).toContain(`status ${ERR_NO_MODEL}`);
      const damaged = readFileSync(path);
      damaged[damaged.indexOf("ELBM") + 200]! ^= 1;
      const file = join(folder, "damaged.wasm");
      writeFileSync(file, damaged);
      expect(refused(file)).toContain(`status ${ERR_BAD_CHECKSUM}`);
    });
  });
}
