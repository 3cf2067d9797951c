// Training and learning in processes of the lowest priority, so that flows go on meanwhile.
const { fork, spawn } = require("node:child_process");
const { constants, setPriority } = require("node:os");
const { dirname, join } = require("node:path");

function yielding(child) {
  try {
    if (child.pid !== undefined) setPriority(child.pid, constants.priority.PRIORITY_LOW);
  } catch {
    // Where that is forbidden the scheduler still shares fairly.
  }
  return child;
}

/** `edgelabel learn`, which keeps the corrections in a journal and writes either whole files or none; its report. */
function learn({ training, deployed, corrections, data, valid, newLabels }, signal) {
  const program = join(dirname(require.resolve("edgelabel/package.json")), "bin/edgelabel.js");
  const output = [...(deployed ? ["-o", deployed] : []), ...(newLabels ? ["--new-labels"] : [])];
  const texts = ["--corrections", "-", "--data", data, "--valid", valid];
  return new Promise((resolve, reject) => {
    const child = yielding(
      spawn(process.execPath, [program, "learn", training, ...texts, ...output, "--json"], {
        signal,
        killSignal: "SIGKILL",
      }),
    );
    const [stdout, stderr] = [[], []];
    child.stdout.on("data", (chunk) => stdout.push(chunk));
    child.stderr.on("data", (chunk) => stderr.push(chunk));
    child.on("error", (error) => reject(signal.aborted ? signal.reason : error));
    child.on("close", (code) => {
      // Remarks come before what is wrong.
      if (code === 0) resolve(JSON.parse(Buffer.concat(stdout)));
      else
        reject(
          new Error(
            Buffer.concat(stderr)
              .toString()
              .trim()
              .split(/^edgelabel: /m)
              .at(-1),
          ),
        );
    });
    // A program that ends at once says why.
    child.stdin.on("error", () => {});
    child.stdin.end(corrections.map((each) => `${JSON.stringify(each)}\n`).join(""));
  });
}

/** Trains as lib/train.mjs says; its report. */
function train(job, { signal, onProgress }) {
  return new Promise((resolve, reject) => {
    const child = yielding(
      fork(join(__dirname, "train.mjs"), { serialization: "advanced", execArgv: [], signal, killSignal: "SIGKILL" }),
    );
    child.on("message", ({ progress, report, error }) => {
      if (progress) onProgress(...progress);
      else if (report) resolve(report);
      else reject(new Error(error));
    });
    child.on("error", (error) => reject(signal.aborted ? signal.reason : error));
    child.on("close", (code, killer) => reject(new Error(`training broke off (${killer ?? code})`)));
    try {
      child.send(job);
    } catch (error) {
      // A message may hold what cannot be handed on, such as functions; the process would wait for it for ever.
      child.kill();
      throw error;
    }
  });
}

module.exports = { learn, train };
