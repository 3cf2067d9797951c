// A pool of Node's worker threads, each with the model, for texts that come faster than one core answers.
// Classifies the lines of standard input; the answers keep their order.
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { buffer } from "node:stream/consumers";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { openClassifier } from "./classifier.js";

const BATCH = 256; // texts a message, so that sending them costs little

if (isMainThread) {
  const file = new Uint8Array(readFileSync(process.argv[2]));
  const pool = openPool(file);
  const lines = (await buffer(process.stdin)).toString("latin1").replace(/\n$/, "").split("\n"); // bytes as they are
  const batches = [];
  for (let i = 0; i < lines.length; i += BATCH)
    batches.push(pool.classify(lines.slice(i, i + BATCH).map((line) => Buffer.from(line, "latin1"))));
  for (const answers of await Promise.all(batches)) process.stdout.write(Buffer.concat(answers));
  pool.close();
} else {
  const classify = await openClassifier(workerData);
  parentPort.on("message", (texts) => parentPort.postMessage(texts.map((text) => classify(text).slice())));
}

/** Each worker answers its messages in order, so the oldest promise is the one an answer belongs to. */
function openPool(file, size = availableParallelism()) {
  const workers = Array.from({ length: size }, () => {
    const worker = new Worker(new URL(import.meta.url), { workerData: file });
    const waiting = [];
    worker.on("message", (answers) => waiting.shift().resolve(answers));
    worker.on("error", (error) => waiting.splice(0).forEach(({ reject }) => reject(error)));
    return { worker, waiting };
  });
  return {
    classify: (texts) =>
      new Promise((resolve, reject) => {
        const { worker, waiting } = workers.reduce((a, b) => (b.waiting.length < a.waiting.length ? b : a));
        waiting.push({ resolve, reject });
        worker.postMessage(texts);
      }),
    close: () => workers.forEach(({ worker }) => worker.terminate()),
  };
}
