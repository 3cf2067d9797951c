// A deployable .wasm in a browser: bytes in, { label, score, scores } out. The engine is
// the one that Node and wasmtime run, so the scores are the same to the last digit. It asks
// its host for nothing but the WASI functions of its command line, which a page never calls.

const TEXT_CAPACITY = 1048576;
const ERRNO_NOSYS = 52;

const refuse = () => ERRNO_NOSYS;
const wasi = { fd_read: refuse, fd_write: refuse, args_get: refuse, args_sizes_get: refuse, proc_exit: refuse };

/** Opens the bytes of a deployable; throws when they are none. */
export async function openClassifier(bytes) {
  const { instance } = await WebAssembly.instantiate(bytes, { wasi_snapshot_preview1: wasi });
  const engine = instance.exports;
  const status = engine.loadEmbedded?.();
  if (status !== 0) throw new Error(status === undefined ? "not an edgelabel module" : `no usable model inside (status ${status})`);
  const decoder = new TextDecoder();
  const read = (length) => JSON.parse(decoder.decode(new Uint8Array(engine.memory.buffer, engine.linePtr(), length)));
  return {
    info: read(engine.renderCard()),
    classify(text) {
      const bytes = new TextEncoder().encode(text);
      if (bytes.length > TEXT_CAPACITY) throw new Error(`a text may have at most ${TEXT_CAPACITY} bytes`);
      new Uint8Array(engine.memory.buffer, engine.textPtr(), bytes.length).set(bytes);
      const status = engine.classify(bytes.length);
      if (status !== 0) throw new Error(`classification failed (status ${status})`);
      return read(engine.renderLine(1, 0));
    },
  };
}
