// A model file of edgelabel in JavaScript: loaded once, then a function call a text. The same file
// works in Node, Deno, Bun, browsers and workers. The exports it calls are described in docs/runtimes.md.
const TEXT_CAPACITY = 1 << 20;

/** `bytes`: the .wasm file. */
export async function openClassifier(bytes) {
  const module = await WebAssembly.compile(bytes);
  // It imports WASI for its command line; as a library it calls nothing of it.
  const wasi = Object.fromEntries(WebAssembly.Module.imports(module).map(({ name }) => [name, () => 52]));
  const { exports } = await WebAssembly.instantiate(module, { wasi_snapshot_preview1: wasi });
  const status = exports.loadEmbedded();
  if (status !== 0) throw new Error(`the model does not load: status ${status}`);
  const memory = new Uint8Array(exports.memory.buffer); // which does not grow from here on
  const [text, line] = [exports.textPtr(), exports.linePtr()];
  /** The answer to a text in UTF-8: one line of JSON with all scores, as bytes that are valid until the next call. */
  return (utf8) => {
    if (utf8.length > TEXT_CAPACITY) throw new Error("the text is longer than 1 MiB");
    memory.set(utf8, text);
    const status = exports.classify(utf8.length);
    if (status !== 0) throw new Error(`classify: status ${status}`);
    return memory.subarray(line, line + exports.renderLine(1, 0));
  };
}
