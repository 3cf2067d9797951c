// edgelabel as a contender in node, with the protocol of peers/peers.py.
//   forward-FORM  the forward pass from ids: the network alone, without the tokenizer
//   text-FORM     the library's function: open(…).classify(text).label
//   loop-FORM     many texts a call, as wasmtime is driven: with the tokenizer, and the tokenizer alone
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { open } from "../build/host/index.js";
import { testingWith } from "./models.mjs";

const CHECKED = 50;
const RUN_MS = 0.2;
/** Texts a call: so few that most calls are not interrupted on a busy machine. */
const LOOP_TEXTS = 20;
const loaded = new Map();

function put(wasm, bytes) {
  const address = wasm.allocate(bytes.length + 16);
  new Uint8Array(wasm.memory.buffer, address, bytes.length).set(bytes);
  return address;
}

/** Writes all texts to the module's memory: [address, length] of each, and the arguments of loopTexts. */
function putTexts(wasm, texts) {
  const encoded = texts.map((text) => Buffer.from(text));
  const offsets = new Uint32Array(encoded.length + 1);
  encoded.forEach((bytes, i) => (offsets[i + 1] = offsets[i] + bytes.length));
  const bytes = put(wasm, Buffer.concat(encoded));
  return {
    bytes,
    offsets: put(wasm, new Uint8Array(offsets.buffer)),
    at: encoded.map(({ length }, i) => [bytes + offsets[i], length]),
  };
}

function forward(elb, model) {
  const wasm = testingWith(elb);
  const { at } = putTexts(wasm, model.inputTexts);
  return {
    prepare: (i) => wasm.readIds(...at[i]),
    call: () => wasm.runIds(),
    scores: (address) => [...new Float32Array(wasm.memory.buffer, address, model.outputs)],
  };
}

async function fromText(elb, model) {
  const opened = await open(elb);
  return { prepare: () => {}, call: (i) => opened.classify(model.inputTexts[i]).label };
}

function loop(elb, model) {
  const wasm = testingWith(elb);
  const { bytes, offsets } = putTexts(wasm, model.inputTexts);
  const count = model.inputTexts.length;
  for (let i = 0; i < 20; i++) wasm.loopTexts(bytes, offsets, count, true);
  return {
    measure(budget) {
      const times = [];
      const reads = [];
      const end = performance.now() + budget;
      for (let first = 0; performance.now() < end; first = (first + LOOP_TEXTS) % (count - LOOP_TEXTS)) {
        const start = performance.now();
        wasm.loopTexts(bytes, offsets + 4 * first, LOOP_TEXTS, false);
        const middle = performance.now();
        wasm.loopTexts(bytes, offsets + 4 * first, LOOP_TEXTS, true);
        reads.push(((middle - start) / LOOP_TEXTS) * 1000);
        times.push(((performance.now() - middle) / LOOP_TEXTS) * 1000);
      }
      return { ok: true, times, reads };
    },
  };
}

async function load({ folder, model: name, contender }) {
  const model = JSON.parse(readFileSync(join(folder, `${name}.json`), "utf8"));
  const [kind, form] = contender.split("-");
  const elb = readFileSync(join(folder, `${name}.${form}.elb`));
  const made =
    kind === "forward" ? forward(elb, model) : kind === "text" ? await fromText(elb, model) : loop(elb, model);
  loaded.set(`${name} ${contender}`, { ...made, count: model.inputTexts.length });
  if (kind === "loop") return { ok: true, version: `node ${process.version}` };
  const scores = [];
  const labels = [];
  // Runs all texts first, so that code and input tables are warm, as the peers' code is.
  for (let i = 0; i < model.inputTexts.length; i++) {
    made.prepare(i);
    const result = made.call(i);
    if (kind === "text") labels.push(result);
    else if (i < CHECKED) scores.push(made.scores(result));
  }
  return { ok: true, version: `node ${process.version}`, scores, labels };
}

function measure({ model, contender, budget, first }) {
  const it = loaded.get(`${model} ${contender}`);
  if (it.measure) return it.measure(budget);
  const times = [];
  let i = first;
  const end = performance.now() + budget;
  while (true) {
    let spent = 0;
    let calls = 0;
    do {
      it.prepare(i % it.count);
      const start = performance.now();
      it.call(i % it.count);
      spent += performance.now() - start;
      calls++;
      i++;
    } while (spent < RUN_MS);
    times.push((spent / calls) * 1000);
    if (performance.now() >= end) return { ok: true, times };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  let answer;
  try {
    answer = request.op === "load" ? await load(request) : measure(request);
  } catch (error) {
    answer = { ok: false, error: String(error.message ?? error).split("\n")[0] };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
