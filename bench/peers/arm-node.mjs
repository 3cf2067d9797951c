// onnxruntime-node in the emulator, as arm.py: node arm-node.mjs FOLDER FILE IDS.json TEXTS REPEATS; FOLDER has node_modules.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [folder, file, description, texts, repeats] = process.argv.slice(2);
const ort = createRequire(join(folder, "package.json"))("onnxruntime-node");
const inputs = JSON.parse(readFileSync(description, "utf8")).ids.slice(0, Number(texts));
const session = await ort.InferenceSession.create(file, { intraOpNumThreads: 1, interOpNumThreads: 1 });
const scores = [];
for (const given of inputs) {
  const ids = new ort.Tensor("int32", Int32Array.from(given), [given.length, 1]);
  for (let i = 0; i < Number(repeats); i++) scores.push((await session.run({ ids })).scores.data);
}
console.log(JSON.stringify([...scores[0]]));
