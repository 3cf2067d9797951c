// A model file in a browser: bytes in, { label, score, scores } out, and which tokens made the
// label. Of a deployable only the model is taken, and run in the page's own engine, engine.wasm,
// which is the one of Node and wasmtime, so the scores are the same to the last digit. The engine
// imports only the WASI functions of its command line, which a page never calls.
import { EdgelabelError } from "./host/errors.js";
import { TEXT_CAPACITY } from "./assembly/abi.js";
import { isWasm, unpackModel } from "./host/model/container.js";
import { check } from "./host/model/status.js";

const ERRNO_NOSYS = 52;
const refuse = () => ERRNO_NOSYS;
const wasi = { fd_read: refuse, fd_write: refuse, args_get: refuse, args_sizes_get: refuse, proc_exit: refuse };

let compiled;

/** Fetched and compiled once for all models of the page. */
async function engineModule() {
  const response = await fetch(new URL("engine.wasm", import.meta.url));
  if (!response.ok)
    throw new Error("engine.wasm is not beside the page; npm run build makes it: put all of build/web on the server");
  return WebAssembly.compile(await response.arrayBuffer());
}

/** Opens the bytes of a .wasm or .elb file; throws an Error that says what is wrong with it. `source` names the file in it. */
export async function openClassifier(bytes, source = "the file") {
  const file = new Uint8Array(bytes);
  const model = isWasm(file) ? unpackModel(file, source) : file;
  compiled ??= engineModule();
  compiled.catch(() => {
    compiled = undefined;
  });
  const { exports: engine } = await WebAssembly.instantiate(await compiled, { wasi_snapshot_preview1: wasi });
  const address = engine.reserveModel(model.length);
  if (address === 0)
    throw new EdgelabelError(`${source}: ${model.length} bytes do not fit in WebAssembly memory`, "out_of_memory");
  new Uint8Array(engine.memory.buffer, address, model.length).set(model);
  check(engine.loadModel(model.length), source);
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const read = (length) => JSON.parse(decoder.decode(new Uint8Array(engine.memory.buffer, engine.linePtr(), length)));
  const run = (text) => {
    const bytes = new TextEncoder().encode(text);
    if (bytes.length > TEXT_CAPACITY)
      throw new EdgelabelError(
        `the text has ${bytes.length} bytes, but at most ${TEXT_CAPACITY} are classified; shorten it`,
        "text_too_long",
      );
    new Uint8Array(engine.memory.buffer, engine.textPtr(), bytes.length).set(bytes);
    check(engine.classify(bytes.length), "text");
    return bytes;
  };
  return {
    info: read(engine.renderCard()),
    classify(text) {
      run(text);
      return read(engine.renderLine(1, 0));
    },
    /** The whole text in order, in parts: tokens with their share in the best label's score, and the text between them with share 0. */
    explain(text) {
      const bytes = run(text);
      check(engine.explainLast(engine.labelCount()), "explanation");
      while (engine.passesLeft() > 0) check(engine.explainNext(), "explanation");
      const parts = [];
      let at = 0;
      for (let i = 0; i < engine.pieceCount(); i++) {
        const [start, end] = [engine.pieceStart(i), engine.pieceEnd(i)];
        parts.push(
          { text: decoder.decode(bytes.subarray(at, start)), share: 0 },
          { text: decoder.decode(bytes.subarray(start, end)), share: engine.pieceShare(i) },
        );
        at = end;
      }
      return [...parts, { text: decoder.decode(bytes.subarray(at)), share: 0 }];
    },
  };
}
