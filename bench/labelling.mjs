// How many labels until the figure moves: texts chosen as the console's review asks for them, against texts at random.
//   node bench/labelling.mjs [--sets snips,hwu64] [--seeds 1,2,3] [--texts 5] [--labels 50,100,200,400]
// A model of a few texts a label meets 2,000 more, as a service would. Some get their label, by one of three rules, and a
// model is trained anew on all that are labelled, which shows the choice of texts and not the way of learning them:
//   random  at random
//   doubt   those with the lowest scores
//   review  of the 200 with the lowest scores, those that are unlike each other and unlike those before (mostTelling)
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { train } from "../build/host/index.js";
import { doubtOf, mostTelling } from "../build/host/service/control/review.js";

const { values } = parseArgs({
  options: {
    sets: { type: "string", default: "snips,hwu64" },
    seeds: { type: "string", default: "1,2,3" },
    texts: { type: "string", default: "5" },
    labels: { type: "string", default: "50,100,200,400" },
    data: { type: "string", default: "../shared/data" },
  },
});
const SEEN = 2_000;
const QUEUE = 200;
const [texts, counts] = [Number(values.texts), values.labels.split(",").map(Number)];

const read = (path) =>
  readFileSync(path, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => {
      const tab = line.indexOf("\t");
      return { label: line.slice(0, tab), text: line.slice(tab + 1) };
    });

/** Numbers from 0 to 1, the same for the same seed. */
function generator(seed) {
  let state = seed;
  return () => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0) / 2 ** 32;
}

function shuffled(items, random) {
  const left = [...items];
  for (let i = left.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [left[i], left[j]] = [left[j], left[i]];
  }
  return left;
}

const byDoubt = (model, left) =>
  left
    .map((sample) => ({ sample, text: sample.text, doubt: doubtOf({ ...model.classify(sample.text), scores: {} }) }))
    .toSorted((a, b) => b.doubt - a.doubt);

const RULES = {
  random: (_model, left, _done, count, random) => shuffled(left, random).slice(0, count),
  doubt: (model, left, _done, count) =>
    byDoubt(model, left)
      .slice(0, count)
      .map(({ sample }) => sample),
  review: (model, left, done, count) =>
    mostTelling(
      byDoubt(model, left).slice(0, Math.max(QUEUE, count)),
      done.map(({ text }) => text),
      count,
    ).map(({ sample }) => sample),
};

const accuracy = (model, test) =>
  (100 * test.filter(({ text, label }) => model.classify(text).label === label).length) / test.length;
const mean = (numbers) => numbers.reduce((sum, each) => sum + each, 0) / numbers.length;
const seeds = values.seeds.split(",").map(Number);

console.log(`accuracy in % on the test texts, mean of seeds ${seeds.join(", ")}; ${texts} texts a label at first`);
console.log(`| | labels given: 0 | ${counts.join(" | ")} |\n|---|--:|${counts.map(() => "--:|").join("")}`);
for (const set of values.sets.split(",")) {
  const test = read(`${values.data}/${set}/test.tsv`);
  const figures = Object.fromEntries(Object.keys(RULES).map((rule) => [rule, []]));
  for (const seed of seeds) {
    const all = shuffled(read(`${values.data}/${set}/train.tsv`), generator(seed));
    const times = new Map();
    const first = all.filter(({ label }) => {
      times.set(label, (times.get(label) ?? 0) + 1);
      return times.get(label) <= texts;
    });
    const seen = all.filter((sample) => !first.includes(sample)).slice(0, SEEN);
    const start = await (await train(first, { seed })).model();
    for (const [rule, choose] of Object.entries(RULES)) {
      const random = generator(seed + 1000);
      let [model, done] = [start, first];
      const line = [accuracy(start, test)];
      for (const count of counts) {
        const left = seen.filter((sample) => !done.includes(sample));
        done = [...done, ...choose(model, left, done, count - (done.length - first.length), random)];
        model = await (await train(done, { seed })).model();
        line.push(accuracy(model, test));
      }
      figures[rule].push(line);
      process.stderr.write(`${set} seed ${seed} ${rule}: ${line.map((each) => each.toFixed(1)).join(" ")}\n`);
    }
  }
  for (const [rule, lines] of Object.entries(figures))
    console.log(
      `| ${set}, ${rule} | ${lines[0].map((_, i) => mean(lines.map((line) => line[i])).toFixed(1)).join(" | ")} |`,
    );
}
