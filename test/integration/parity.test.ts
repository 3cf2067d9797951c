// One model, one answer: the same bytes from the release build under V8, the same build
// under wasmtime, and a build without any optimization, on models of real size and real
// texts. What an optimizer, a runtime or a machine could do to floating point shows here.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { OK } from "../../assembly/abi.ts";
import { Classifier } from "../../host/model/classifier.ts";
import { unpackModel } from "../../host/model/container.ts";
import { packModel } from "../../host/model/pack.ts";
import { Trainer, type ModelForm } from "../../host/training/trainer.ts";
import { GOLDEN_MODELS, importGolden } from "../support/golden.ts";
import { loadFile, putText, samples, trainTiny } from "../support/models.ts";
import { sharedIsPresent, sharedPath } from "../support/shared.ts";
import { describeWasmtime, runWasmtime } from "../support/wasmtime.ts";
import type { Exports } from "../support/wasm.ts";

const FORMS: readonly Exclude<ModelForm, "training">[] = ["f32", "int8", "int8-weights"];
const root = fileURLToPath(new URL("../../", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "edgelabel-parity-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Subject {
  name: string;
  file: Uint8Array;
}

const models: Subject[] = [];
const texts: string[] = samples.map(({ text }) => text);

beforeAll(async () => {
  const tiny = await trainTiny();
  for (const form of FORMS) models.push({ name: `tiny ${form}`, file: tiny.write(form) });
  if (!sharedIsPresent) return;
  for (const golden of GOLDEN_MODELS) {
    const trainer = await Trainer.open(await importGolden(golden), golden);
    trainer.buildOpened();
    for (const form of FORMS) models.push({ name: `${golden} ${form}`, file: trainer.write(form) });
  }
  for (const set of ["snips", "hwu64", "sms_spam", "massive_en", "massive_zh"]) {
    texts.push(
      ...readFileSync(sharedPath("data", set, "train.tsv"), "utf8")
        .split("\n")
        .slice(0, 100)
        .map((line) => line.split("\t")[1] ?? ""),
    );
  }
});

function instance(module: WebAssembly.Module): Exports {
  const imports = Object.fromEntries(WebAssembly.Module.imports(module).map(({ name }) => [name, () => 52]));
  return new WebAssembly.Instance(module, { wasi_snapshot_preview1: imports }).exports as Exports;
}

/** The bits of all scores of all texts. */
function scoreBits(module: WebAssembly.Module, file: Uint8Array): Buffer {
  const wasm = instance(module);
  expect(loadFile(wasm, file)).toBe(OK);
  return Buffer.concat(
    texts.map((text) => {
      expect(wasm["classify"](putText(wasm, text))).toBe(OK);
      return Buffer.from(new Uint8Array(wasm.memory.buffer, wasm["scoresPtr"](), 4 * wasm["labelCount"]()));
    }),
  );
}

describe("a build without optimization", () => {
  let debug: WebAssembly.Module;
  beforeAll(() => {
    const path = join(folder, "debug.wasm");
    const { options } = JSON.parse(readFileSync(join(root, "asconfig.json"), "utf8")) as {
      options: Record<string, unknown>;
    };
    const config = {
      options: { ...options, optimizeLevel: 0, shrinkLevel: 0, converge: false, bindings: [] },
      targets: { debug: {} },
    };
    writeFileSync(join(folder, "asconfig.json"), JSON.stringify(config));
    execFileSync(
      process.execPath,
      [
        join(root, "node_modules/assemblyscript/bin/asc.js"),
        "assembly/index.ts",
        "--config",
        join(folder, "asconfig.json"),
        "--target",
        "debug",
        "--baseDir",
        root,
        "-o",
        path,
      ],
      { cwd: root, stdio: ["ignore", "ignore", "pipe"] },
    );
    debug = new WebAssembly.Module(readFileSync(path));
  });

  test("is another module, and gives the same bits", () => {
    const bytes = readFileSync(join(root, "build/engine.wasm"));
    const release = new WebAssembly.Module(bytes);
    expect(readFileSync(join(folder, "debug.wasm")).length).toBeGreaterThan(bytes.length);
    for (const { name, file } of models) {
      expect(scoreBits(debug, file).equals(scoreBits(release, file)), name).toBe(true);
    }
  });
});

describeWasmtime("wasmtime and Node", (wasmtime) => {
  test("print the same bytes for every model, and the deployable holds its model unchanged", async () => {
    const lines = texts.map((text) => text.replaceAll(/[\r\n]/g, " "));
    for (const { name, file } of models) {
      const wasm = await packModel(file);
      expect(Buffer.compare(unpackModel(wasm, name), file)).toBe(0);
      const path = join(folder, "model.wasm");
      writeFileSync(path, wasm);
      const [packed, plain] = [await Classifier.fromBytes(wasm, name), await Classifier.fromBytes(file, name)];
      const expected = Buffer.concat(lines.map((line) => packed.line(Buffer.from(line), { json: true, top: 0 })));
      expect(
        Buffer.concat(lines.map((line) => plain.line(Buffer.from(line), { json: true, top: 0 }))).equals(expected),
        name,
      ).toBe(true);
      const { status, stdout } = runWasmtime(wasmtime, path, ["--json"], `${lines.join("\n")}\n`);
      expect(status).toBe(0);
      expect(stdout.equals(expected), name).toBe(true);
    }
  });
});
