// Preloaded into a program that is given --expose-gc: counts the engines in it, and tells the test that started it, when asked.
const { instantiate } = WebAssembly;
let alive = 0;
const freed = new FinalizationRegistry(() => alive--);

WebAssembly.instantiate = async (...args) => {
  const result = await instantiate.apply(WebAssembly, args);
  const { exports } = result.instance ?? result;
  if (exports.loadModel) {
    alive++;
    // What its user reads answers from; the instance itself may go before.
    freed.register(exports.memory);
  }
  return result;
};

process.on("message", async () => {
  for (let i = 0; i < 5; i++) {
    globalThis.gc();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const { heapUsed, external, arrayBuffers, rss } = process.memoryUsage();
  process.send({ engines: alive, heapUsed, external, arrayBuffers, rss });
});
