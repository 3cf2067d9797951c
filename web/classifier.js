// A deployable .wasm in a browser: bytes in, { label, score, scores } out, and which tokens made
// the label. It is the same engine as in Node and wasmtime, so the scores are the same to the
// last digit. It imports only the WASI functions of its command line, which a page never calls.

const TEXT_CAPACITY = 1048576;
const ERRNO_NOSYS = 52;

const refuse = () => ERRNO_NOSYS;
const wasi = { fd_read: refuse, fd_write: refuse, args_get: refuse, args_sizes_get: refuse, proc_exit: refuse };

/** Opens the bytes of a deployable; throws when they are not one. */
export async function openClassifier(bytes) {
  const { instance } = await WebAssembly.instantiate(bytes, { wasi_snapshot_preview1: wasi });
  const engine = instance.exports;
  const status = engine.loadEmbedded?.();
  if (status !== 0) throw new Error(status === undefined ? "not an edgelabel module" : `no usable model inside (status ${status})`);
  const decoder = new TextDecoder();
  const read = (length) => JSON.parse(decoder.decode(new Uint8Array(engine.memory.buffer, engine.linePtr(), length)));
  const run = (text) => {
    const bytes = new TextEncoder().encode(text);
    if (bytes.length > TEXT_CAPACITY) throw new Error(`a text may have at most ${TEXT_CAPACITY} bytes`);
    new Uint8Array(engine.memory.buffer, engine.textPtr(), bytes.length).set(bytes);
    const status = engine.classify(bytes.length);
    if (status !== 0) throw new Error(`classification failed (status ${status})`);
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
      engine.explainLast(engine.labelCount());
      while (engine.passesLeft() > 0) if (engine.explainNext() !== 0) throw new Error("the text cannot be explained");
      const parts = [];
      let at = 0;
      for (let i = 0; i < engine.pieceCount(); i++) {
        const [start, end] = [engine.pieceStart(i), engine.pieceEnd(i)];
        parts.push({ text: decoder.decode(bytes.subarray(at, start)), share: 0 }, { text: decoder.decode(bytes.subarray(start, end)), share: engine.pieceShare(i) });
        at = end;
      }
      return [...parts, { text: decoder.decode(bytes.subarray(at)), share: 0 }];
    },
  };
}
