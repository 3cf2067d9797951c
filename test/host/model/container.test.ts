// Model files made to do harm: whatever code is in a .wasm, the host runs none of it. It takes the
// model out, within limits, and says when the file's engine is not its own.
import { execFile, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ACTIVATION_SOFTMAX } from "../../../assembly/abi.ts";
import { Classifier } from "../../../host/model/classifier.ts";
import { unpackModel } from "../../../host/model/container.ts";
import { Engine } from "../../../host/model/engine.ts";
import { packModel } from "../../../host/model/pack.ts";
import { newPrivateKey } from "../../../host/registry/keys.ts";
import { dense, embedding, lstm, makeModel, Seeded, smallestModel } from "../../support/models.ts";
import { main } from "../../support/program.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-container-"));
const at = (name: string): string => join(folder, name);
afterAll(() => rmSync(folder, { recursive: true }));

// --- a WebAssembly module by hand ----------------------------------------------------

function leb(value: number): number[] {
  const bytes: number[] = [];
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) | 0x80);
  return [...bytes, value];
}

const text = (content: string): number[] => [...leb(Buffer.byteLength(content)), ...Buffer.from(content)];
const list = (items: readonly number[][]): number[] => [...leb(items.length), ...items.flat()];
const section = (id: number, body: readonly number[]): number[] => [id, ...leb(body.length), ...body];
const preamble = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
const wasm = (...sections: number[][]): Uint8Array => Uint8Array.from([...preamble, ...sections.flat()]);
const segment = (address: number, bytes: ArrayLike<number>): number[] => [
  0,
  0x41,
  ...leb(address),
  0x0b,
  ...leb(bytes.length),
  ...Array.from(bytes),
];

const [I32, END, CALL, LOOP, BR, CONST, DROP] = [0x7f, 0x0b, 0x10, 0x03, 0x0c, 0x41, 0x1a];

/** Function 0 is the imported one, 1 has `body` and is exported by all names; with `starts` it runs when the module is instantiated. */
function module({
  from,
  parameters = 0,
  body = [],
  names = ["_start", "abiVersion", "loadEmbedded"],
  pages = 8,
  segments = [],
  starts = true,
}: {
  from: [string, string];
  parameters?: number;
  body?: number[];
  names?: string[];
  pages?: number;
  segments?: number[][];
  starts?: boolean;
}): Uint8Array {
  return wasm(
    section(
      1,
      list([
        [0x60, ...list(Array.from({ length: parameters }, () => [I32])), 0],
        [0x60, 0, 0],
      ]),
    ),
    section(2, list([[...text(from[0]), ...text(from[1]), 0, 0]])),
    section(3, list([[1]])),
    section(5, list([[0, ...leb(pages)]])),
    section(7, list([[...text("memory"), 2, 0], ...names.map((name) => [...text(name), 0, 1])])),
    ...(starts ? [section(8, [1])] : []),
    section(10, list([[...leb(body.length + 2), 0, ...body, END]])),
    section(11, list(segments)),
  );
}

const WASI: [string, string] = ["wasi_snapshot_preview1", "proc_exit"];
const ENDLESS = [LOOP, 0x40, BR, 0, END];
const ESCAPES = "\u001b]0;owned\u0007";

let model: Uint8Array;
let hostile: Record<string, Uint8Array>;

beforeAll(async () => {
  model = await smallestModel();
  const segments = [segment(1024, model)];
  // AssemblyScript's string, in UTF-16 behind its length.
  const spelt = [...Uint8Array.from(Buffer.from(ESCAPES, "utf16le"))];
  hostile = {
    "an import from Object.prototype": module({ from: ["constructor", "constructor"], body: [CALL, 0], segments }),
    "a member of Object.prototype among its exports": module({
      from: WASI,
      parameters: 1,
      names: ["constructor#get:then", "abiVersion"],
      segments,
      starts: false,
    }),
    "an endless start function": module({ from: WASI, parameters: 1, body: ENDLESS, segments }),
    "text for the terminal": module({
      from: ["env", "trace"],
      parameters: 2,
      body: [CONST, 24, CONST, 0, CALL, 0],
      segments: [segment(20, [...leb(spelt.length), 0, 0, 0, ...spelt]), ...segments],
    }),
    "more memory than there is": module({ from: WASI, parameters: 1, body: [CONST, 0, DROP], pages: 65536, segments }),
  };
  for (const [name, bytes] of Object.entries(hostile)) writeFileSync(at(`${name}.wasm`), bytes);
  writeFileSync(at("good.wasm"), await packModel(model));
  writeFileSync(at("key.pem"), newPrivateKey());
});

function run(...args: string[]): Promise<{ status: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [main, ...args], { timeout: 60_000, killSignal: "SIGKILL" }, (error, stdout, stderr) => {
      resolve({ status: error === null ? 0 : Number(error.code ?? -1), stdout, stderr });
    });
  });
}

const NAMES = [
  "an import from Object.prototype",
  "a member of Object.prototype among its exports",
  "an endless start function",
  "text for the terminal",
  "more memory than there is",
];

describe.each(NAMES)("%s", (name) => {
  test("is not run: the model answers, in the host's engine", async () => {
    const before = Object.getOwnPropertyNames(Object.prototype);
    const classifier = await Classifier.fromBytes(hostile[name]!, name);
    expect(Object.getOwnPropertyNames(Object.prototype)).toEqual(before);
    expect(classifier.classify("hi", 0)).toEqual((await Classifier.fromBytes(model, "model")).classify("hi", 0));
    expect(classifier.isPackedHere).toBe(false);
  });

  test("is not run by info, predict, serve --check, sign or install, and the first three say that its engine is another", async () => {
    const path = at(`${name}.wasm`);
    const [info, card, predict, check, sign, install] = await Promise.all([
      run("info", path),
      run("info", path, "--json"),
      run("predict", path, "hi"),
      run("serve", `m=${path}`, "--check"),
      run(
        "sign",
        path,
        "--key",
        at("key.pem"),
        "--sequence",
        "1",
        "--expires",
        "90d",
        "--name",
        "m",
        "-o",
        at(`${name}.update`),
      ),
      run("models", "install", at(`registry ${name}`), path, "--unsigned", "--name", "m"),
    ]);
    const warning = `warning: ${path}: it was packed with another engine than this edgelabel's`;
    expect(info.stdout).toMatch(/^engine  another one than this edgelabel's: .*pack it again/m);
    expect(JSON.parse(card.stdout)).toMatchObject({ file: path, labels: ["no", "yes"], engine: "other" });
    expect(predict.stdout).toBe("yes\t0.684844\n");
    expect(predict.stderr).toMatch(/^edgelabel: .*\n$/);
    expect(predict.stderr).toContain(warning);
    expect(check.stderr).toContain(warning);
    for (const { status, stdout, stderr } of [info, card, predict, check, sign, install]) {
      expect({ status, stderr }).toMatchObject({ status: 0 });
      expect(stdout + stderr).not.toMatch(/\u001b|owned/);
    }
  }, 120_000);
});

test("105 bytes that claim 1.1 GB are refused by name", () => {
  const claims = module({ from: WASI, parameters: 1, pages: 17_000, names: ["a"] });
  expect(claims.length).toBeLessThan(105);
  expect(() => unpackModel(claims, "claims.wasm")).toThrow(
    "claims.wasm: holds no model; pack one with: edgelabel pack MODEL.elb -o MODEL.wasm",
  );
});

test("info and predict say nothing against a file with the host's own engine", async () => {
  writeFileSync(at("good.elb"), model);
  const [info, card, predict, plain, plainInfo] = await Promise.all([
    run("info", at("good.wasm")),
    run("info", at("good.wasm"), "--json"),
    run("predict", at("good.wasm"), "hi"),
    run("info", at("good.elb"), "--json"),
    run("info", at("good.elb")),
  ]);
  expect(info.stdout).toMatch(/^engine  this edgelabel's$/m);
  const bytes = readFileSync(at("good.wasm")).length;
  expect(info.stdout).toMatch(
    new RegExp(
      `^size    ${(bytes / 1024).toFixed(1)} KB, of it the model 0\\.4 KB, and of that weights 0\\.1 KB; in memory `,
      "m",
    ),
  );
  expect(JSON.parse(card.stdout)).toMatchObject({ engine: "own", file_bytes: bytes, model_bytes: model.length });
  expect(predict).toEqual({ status: 0, stdout: "yes\t0.684844\n", stderr: "" });
  expect(JSON.parse(plain.stdout)).toMatchObject({ engine: null, resumable: false });
  expect(plainInfo.stdout).not.toContain("the state to resume");
});

describe("names and labels that would turn text around or move the cursor", () => {
  const LABELS = ["gnp.\u202emaps", "a\u2066b", "c\u009b2Jd", "\u{e0061}e", "\u{1f468}\u200d\u{1f467}"];
  const SHOWN = ["gnp.\ufffdmaps", "a\ufffdb", "c\ufffd2Jd", "\ufffde", "\u{1f468}\u200d\u{1f467}"];

  test("are shown as U+FFFD, and escaped in JSON", async () => {
    const { write } = await makeModel(
      {
        words: ["hi"],
        labels: LABELS,
        layers: [embedding(2), lstm(2), dense(5, ACTIVATION_SOFTMAX)],
        name: "n\u202em",
        version: "1\u200f",
      },
      (_, length) => new Float32Array(length),
    );
    writeFileSync(at("turned.elb"), write("f32"));
    writeFileSync(
      at("turned.jsonl"),
      LABELS.slice(0, 2)
        .map((label) => `${JSON.stringify({ text: "hi", label })}\n`)
        .join(""),
    );
    const [info, card, figures, table, explained, unknown] = await Promise.all([
      run("info", at("turned.elb")),
      run("info", at("turned.elb"), "--json"),
      run("eval", at("turned.elb"), at("turned.jsonl"), "--json"),
      run("eval", at("turned.elb"), at("turned.jsonl")),
      run("explain", at("turned.elb"), "hi"),
      run("explain", at("turned.elb"), "hi", "--label", "\u202e"),
    ]);
    expect(info.stdout).toContain(`5: ${SHOWN.join(", ")}\n`);
    expect(info.stdout).toContain("n\ufffdm, version 1\ufffd\n");
    expect(JSON.parse(card.stdout)).toMatchObject({ labels: LABELS, name: "n\u202em" });
    expect(JSON.parse(figures.stdout).labels).toEqual(expect.arrayContaining(LABELS.slice(0, 2)));
    expect(table.stdout).toContain(SHOWN[0]);
    for (const { stdout, stderr } of [info, card, figures, table, explained, unknown])
      expect(stdout + stderr).not.toMatch(/[\u0080-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/);
  });
});

test("the model lies in a deployable where its engine looks for it", async () => {
  const address = await Engine.modelAddress();
  expect(Buffer.from(await packModel(model)).includes(Buffer.from(segment(address, model)))).toBe(true);
});

describe("a deployable is read within limits", () => {
  const data = (...items: number[][]): Uint8Array => wasm(section(11, list(items)));
  const complaint = (bytes: Uint8Array): string => {
    try {
      unpackModel(bytes, "m.wasm");
    } catch (error) {
      return (error as Error).message;
    }
    return "none";
  };

  test("its model is found among other segments and sections", () => {
    const file = wasm(
      section(0, [...text("name"), 1, 2]),
      section(0, text("name")),
      section(11, list([segment(8, [model[0]!, 2, 3]), segment(1_000_000, model)])),
    );
    expect(Buffer.compare(unpackModel(file, "m.wasm"), model)).toBe(0);
  });

  test.each<[string, () => Uint8Array, string]>([
    ["another version", () => Uint8Array.of(0, 0x61, 0x73, 0x6d, 2, 0, 0, 0), "not a WebAssembly module of version 1"],
    ["a component", () => Uint8Array.of(0, 0x61, 0x73, 0x6d, 0x0d, 0, 1, 0), "not a WebAssembly module of version 1"],
    ["the magic only", () => Uint8Array.of(0, 0x61, 0x73, 0x6d), "not a WebAssembly module of version 1"],
    ["nothing behind the preamble", () => wasm(), "holds no model"],
    ["no model among the segments", () => data(segment(8, [1, 2])), "holds no model"],
    ["a section that is longer than the file", () => wasm([11, ...leb(2 ** 31), 0]), "cut off"],
    ["a section of 4 GiB", () => wasm([11, 0xff, 0xff, 0xff, 0xff, 0x0f, 0]), "cut off"],
    ["a length of more than 32 bits", () => wasm([11, 0xff, 0xff, 0xff, 0xff, 0x1f, 0]), "too large"],
    ["a length that never ends", () => wasm([11, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0]), "too large"],
    ["a length that is cut off", () => wasm([11, 0x80]), "cut off"],
    [
      "two data sections",
      () => wasm(section(11, list([segment(8, model)])), section(11, list([segment(8, model)]))),
      "it has section 11 twice",
    ],
    ["two models", () => data(segment(8, model), segment(9, model)), "more than one model"],
    ["a passive segment", () => data([1, ...leb(model.length), ...model]), "of a kind that edgelabel does not write"],
    [
      "a segment of another memory",
      () => data([2, 1, 0x41, 8, 0x0b, ...leb(model.length), ...model]),
      "of a kind that edgelabel does not write",
    ],
    [
      "an address from a global",
      () => data([0, 0x23, 0, 0x0b, ...leb(model.length), ...model]),
      "of a kind that edgelabel does not write",
    ],
    [
      "an address that is computed",
      () => data([0, 0x41, 8, 0x41, 8, 0x6a, 0x0b, ...leb(model.length), ...model]),
      "not a constant",
    ],
    [
      "a segment that is longer than its section",
      () => data([0, 0x41, 8, 0x0b, ...leb(model.length + 1), ...model]),
      "cut off",
    ],
    ["a segment of 1.1 GB", () => data([0, 0x41, 8, 0x0b, ...leb(1.1e9), ...model]), "cut off"],
    [
      "more segments than there are",
      () => wasm(section(11, [...leb(3), ...segment(8, model)])),
      "of a kind that edgelabel does not write",
    ],
    ["4 billion segments", () => wasm(section(11, [0xff, 0xff, 0xff, 0xff, 0x0f])), "more than 4096 data segments"],
    [
      "bytes behind the segments",
      () => wasm(section(11, [...list([segment(8, model)]), 0])),
      "longer than its segments",
    ],
    [
      "10,000 sections",
      () => wasm(...Array.from({ length: 10_000 }, () => section(0, text("x")))),
      "more than 256 sections",
    ],
  ])("%s", (_, make, message) => {
    expect(complaint(make())).toMatch(/^m\.wasm: /);
    expect(complaint(make())).toContain(message);
  });

  test("cut off at any byte, or with any byte of its head changed: the same model, or a named error", () => {
    const good = Uint8Array.from(readFileSync(at("good.wasm")));
    const begin = unpackModel(good, "good").byteOffset;
    const next = new Seeded(13);
    const said = new Set<string>();
    for (let i = 0; i < good.length; i += 31) said.add(complaint(good.subarray(0, i)));
    expect(said.has("none")).toBe(false);
    for (let i = 0; i < begin; i += i < 400 ? 1 : 17) {
      const kept = good[i]!;
      good[i] = next.below(256);
      said.add(complaint(good));
      good[i] = kept;
    }
    expect(
      [...said].filter((each) => !/^(none$|m\.wasm: (not a deployable of edgelabel|holds no model))/.test(each)),
    ).toEqual([]);
    expect(said.size).toBeGreaterThan(4);
  });

  test("a file that is too large is named, and not read", async () => {
    const sparse = at("sparse.wasm");
    spawnSync("truncate", ["-s", "5G", sparse]);
    const { status, stderr } = await run("info", sparse);
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: `edgelabel: ${sparse}: is larger than 2 GiB, which no model is\n`,
    });
  });
});

test("the engine is compiled once for all models", async () => {
  let compilations = 0;
  const { compile } = WebAssembly;
  WebAssembly.compile = (async (bytes: BufferSource) => {
    compilations++;
    return compile(bytes);
  }) as typeof compile;
  try {
    for (let i = 0; i < 5; i++) await Classifier.fromBytes(i % 2 ? model : readFileSync(at("good.wasm")), "model");
  } finally {
    WebAssembly.compile = compile;
  }
  expect(compilations).toBe(0);
});
