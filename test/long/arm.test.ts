// The same bits on ARM, emulated, of 64 and of 32 bits: what Node and wasmtime print there
// for a model is what is printed here, and what Keras computed; training gives the same
// file; the service runs.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openModel } from "../../host/model/file.ts";
import { packModel } from "../../host/model/pack.ts";
import { Trainer, type ModelForm } from "../../host/training/trainer.ts";
import { GOLDEN_MODELS, importGolden, type GoldenCase } from "../support/golden.ts";
import { TestClient } from "../support/fake.ts";
import { main, serve } from "../support/program.ts";
import { samples, trainTiny } from "../support/models.ts";
import { readSharedJson, readSharedJsonLines, sharedIsPresent, sharedPath } from "../support/shared.ts";
import { fetchArm } from "../tools/fetch-arm.mjs";
import { describeWith } from "./needs.ts";
import { isLong } from "./size.ts";

const FORMS: readonly ModelForm[] = ["f32", "int8", "int8-weights"];
const messages = fileURLToPath(new URL("../../host/demo/messages.tsv", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "edgelabel-arm-"));
const tiny = join(folder, "tiny int8.wasm");
const models: string[] = [];
let lines: string[] = samples.map(({ text }) => text);

async function keep(name: string, trainer: Trainer, forms: readonly ModelForm[]): Promise<void> {
  for (const form of forms) {
    const path = join(folder, `${name} ${form}.wasm`);
    writeFileSync(path, await packModel(trainer.write(form)));
    models.push(path);
  }
}

beforeAll(async () => {
  await keep("tiny", await trainTiny({ linear: true }), isLong ? FORMS : ["int8"]);
  if (!sharedIsPresent) return;
  for (const name of isLong ? GOLDEN_MODELS : ["model-snips-masked-bidirectional"]) {
    const trainer = await Trainer.open(await importGolden(name), name);
    trainer.buildOpened();
    await keep(name, trainer, isLong ? FORMS : ["f32"]);
  }
  lines.push(
    ...["snips", "hwu64", "sms_spam", "massive_en", "massive_zh"].flatMap((set) =>
      readFileSync(sharedPath("data", set, "test.tsv"), "utf8")
        .split("\n")
        .slice(0, isLong ? 200 : 20)
        .map((line) => line.split("\t")[1] ?? ""),
    ),
  );
  lines = lines.map((line) => line.replaceAll(/[\r\n]/g, " "));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describeWith("ARM", "an emulator", fetchArm, ({ arm64, armv7, wasmtime }) => {
  function run([command, ...first]: readonly string[], args: readonly string[], input = ""): Buffer {
    const { status, stdout, stderr } = spawnSync(command!, [...first, ...args], { input, maxBuffer: 1 << 28 });
    expect([status, status === 0 ? "" : stderr.toString()]).toEqual([0, ""]);
    return stdout;
  }

  test("is what the programs say they run on", () => {
    expect([arm64, armv7].map((node) => run(node, ["-p", "process.arch"]).toString())).toEqual(["arm64\n", "arm\n"]);
  });

  test("Node and wasmtime print the bytes of this machine for every model", async () => {
    const input = `${lines.join("\n")}\n`;
    for (const path of models) {
      const classifier = await openModel(path);
      const expected = Buffer.concat(lines.map((line) => classifier.line(Buffer.from(line), { json: true, top: 0 })));
      expect(run(wasmtime, ["run", path, "--json"], input).equals(expected), `wasmtime: ${path}`).toBe(true);
      // Node takes seconds to start there.
      for (const node of isLong || path === tiny ? [arm64, armv7] : [])
        expect(run(node, [main, "predict", path, "--json"], input).equals(expected), `${node.join(" ")}: ${path}`).toBe(
          true,
        );
    }
  }, 600_000);

  test.runIf(sharedIsPresent)(
    "wasmtime prints the scores of Keras",
    () => {
      for (const path of models) {
        const name = GOLDEN_MODELS.find((each) => path.endsWith(`${each} f32.wasm`));
        if (name === undefined) continue;
        const labels = readSharedJson<string[]>("golden", name, "labels.json");
        const cases = readSharedJsonLines<GoldenCase>("golden", name, "cases.jsonl").filter(
          ({ text }) => !/[\r\n]/.test(text),
        );
        const printed = run(wasmtime, ["run", path, "--json"], cases.map(({ text }) => `${text}\n`).join(""))
          .toString()
          .trimEnd()
          .split("\n");
        expect(printed.length).toBe(cases.length);
        for (const [i, { scores }] of cases.entries()) {
          const found = (JSON.parse(printed[i]!) as { scores: Record<string, number> }).scores;
          const expected = scores.length === 1 ? [1 - scores[0]!, scores[0]!] : scores;
          for (const [k, label] of labels.entries())
            expect(Math.abs(found[label]! - expected[k]!), `${name}: ${cases[i]!.text}`).toBeLessThan(1.1e-5);
        }
      }
    },
    600_000,
  );

  test.runIf(isLong)(
    "training gives the same file",
    () => {
      const train = (command: readonly string[], out: string) => {
        run(command, [main, "train", messages, "-o", out, "--name", "messages", "--epochs", "3", "--seed", "7"]);
        return readFileSync(out);
      };
      const here = train([process.execPath], join(folder, "here.wasm"));
      for (const node of [arm64, armv7])
        expect(train(node, join(folder, "there.wasm")).equals(here), node.join(" ")).toBe(true);
    },
    600_000,
  );

  test("the service answers over MQTT as it does here, and stops when told", async () => {
    const service = await serve([tiny, "--port", "0", "--node", "gate-1"], { node: arm64 });
    const client = await TestClient.connect(service.url, 4);
    await client.subscribe("edgelabel/gate-1/label");
    const classifier = await openModel(tiny);
    for (const [id, text] of lines.slice(0, 100).entries()) {
      await client.publish("edgelabel/gate-1/classify", JSON.stringify({ text, id }));
      const { label, score, unknown } = classifier.classify(text);
      expect((await client.next(() => true, 30_000)).json).toEqual({
        id,
        label,
        score,
        ...(unknown ? { unknown } : {}),
        model: "tiny",
        version: "1",
      });
    }
    await client.close();
    expect((await service.end()).code).toBe(0);
  }, 300_000);
});
