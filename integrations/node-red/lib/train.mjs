// A training in a process of its own: a job comes as a message, progress and a report or an error go back.
import { access, constants, readFile, rename, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { parse, train } from "edgelabel";

const PROGRESS_MS = 500;

async function read(file) {
  const bytes = await readFile(file).catch(({ code }) => {
    throw new Error(`${file}: it cannot be read (${code}); name a file of labelled texts`);
  });
  return parse(bytes, file);
}

/** The texts as they are in a message: an array of { text, label }, or the content of a file. */
function given(texts) {
  return Array.isArray(texts) ? texts : parse(Buffer.from(texts), "msg.payload");
}

/** Before a training that may take minutes. */
async function requireFolder(file) {
  await access(dirname(file), constants.W_OK).catch(({ code }) => {
    throw new Error(`${file}: it cannot be written (${code}); choose a folder that is there`);
  });
}

async function replace(file, bytes) {
  await writeFile(`${file}.new`, bytes, { flush: true });
  await rename(`${file}.new`, file);
}

async function run({ file, texts, valid, unknown, name, deployed, training }) {
  await requireFolder(training);
  const notes = [];
  let shown = -Infinity;
  const trained = await train(file === undefined ? given(texts) : await read(file), {
    name,
    valid: typeof valid === "string" ? await read(valid) : valid,
    unknown,
    onNote: (note) => notes.push(note),
    onProgress(done, total) {
      if (performance.now() - shown < PROGRESS_MS) return;
      shown = performance.now();
      process.send({ progress: [done, total] });
    },
  });
  // The training form first: what answers is always one that can learn.
  await replace(training, await trained.elb());
  if (deployed !== undefined) await replace(deployed, await trained.wasm());
  const { train: learnt, validation } = trained.reports.at(-1);
  return { file: deployed ?? training, labels: trained.labels, train: learnt, validation, notes };
}

// The flow has been stopped, and with it the process that waits for this one.
process.on("disconnect", () => process.exit());
process.once("message", async (job) => {
  let message;
  try {
    message = { report: await run(job) };
  } catch (error) {
    message = { error: error.message };
  }
  process.send(message, () => process.disconnect());
});
