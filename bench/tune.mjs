// What `train --tune` chooses, and how it does on texts that neither it nor the default recipe has seen.
//   node bench/tune.mjs [--time 3m] [--sets snips,hwu64,sms_spam] [--data ../shared/data]
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { edgelabel } from "./program.mjs";

const { values } = parseArgs({
  options: {
    time: { type: "string", default: "3m" },
    sets: { type: "string", default: "snips,hwu64,sms_spam" },
    data: { type: "string", default: "../shared/data" },
  },
});
const percent = (share) => (100 * share).toFixed(2);
const folder = mkdtempSync(join(tmpdir(), "edgelabel-tune-"));
try {
  console.log(`train --tune ${values.time}; accuracies in % on the test texts, p of McNemar's test`);
  console.log("| set | trials | chosen | default | tuned | p |\n|---|--:|---|--:|--:|--:|");
  for (const set of values.sets.split(",")) {
    const [training, test] = ["train.tsv", "test.tsv"].map((name) => join(values.data, set, name));
    const [plain, tuned] = [join(folder, "default.wasm"), join(folder, "tuned.wasm")];
    edgelabel("train", training, "-o", plain);
    const { trials, chosen } = edgelabel("train", training, "-o", tuned, "--tune", values.time).tuned;
    const { models, p } = edgelabel("eval", plain, tuned, test);
    const [before, after] = models.map(({ accuracy }) => percent(accuracy));
    console.log(`| ${set} | ${trials.length} | ${chosen.what} | ${before} | ${after} | ${p.toFixed(3)} |`);
  }
} finally {
  rmSync(folder, { recursive: true });
}
