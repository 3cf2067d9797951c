// The worker of the page: reads labelled texts, says what is wrong with them, and trains on them.
import { keptAside } from "../../host/data/split.ts";
import { isMultiLabel, labelsOfSample, type Sample } from "../../host/data/dataset.ts";
import { givenLabels } from "../../host/model/answer.ts";
import { Evaluator } from "../../host/report/evaluation.ts";
import { isRight } from "../../host/training/label-sets.ts";
import { inspect, parse, train } from "../index.ts";
import type { Answered, Choices, Job, News, Read } from "./jobs.ts";

/** More reports of progress than one in this time would be too fast to see. */
const PROGRESS_MS = 100;

let samples: readonly Sample[] = [];
let isStopped = false;

const tell = (news: News): void => postMessage(news);

addEventListener("message", ({ data }: MessageEvent<Job>) => {
  if (data.kind === "stop") isStopped = true;
  else
    (data.kind === "read" ? read(data) : trainOn(data.choices)).catch((error: Error) =>
      tell({ kind: "failed", message: error.message }),
    );
});

async function read({ bytes, name, textColumn, labelColumn }: Read): Promise<void> {
  let skipped = 0;
  const columns = { textColumn, labelColumn };
  samples = parse(bytes, name, { ...columns, skipEmpty: true, onSkipped: (count) => (skipped = count) });
  if (skipped > 0 && isMultiLabel(samples)) {
    // Where texts have several labels, those without any have none, and are no fault.
    try {
      samples = parse(bytes, name, columns);
      skipped = 0;
    } catch {
      // There are other faults, too.
    }
  }
  const report = await inspect(samples);
  // Places are numbers of texts there; people look for lines.
  for (const { places } of report.duplicates.groups) for (const place of places) place.line = lineOf(place.line);
  for (const { labels } of report.conflicts.groups)
    for (const places of Object.values(labels)) for (const place of places) place.line = lineOf(place.line);
  tell({ kind: "read", report, skipped });
}

function lineOf(number: number): number {
  return samples[number - 1]!.line;
}

async function trainOn({ name, seed, epochs, aside, unknown }: Choices): Promise<void> {
  const started = performance.now();
  isStopped = false;
  const [training, kept] = aside > 0 ? keptAside(samples, aside) : [samples, []];
  let told = 0;
  const trained = await train(training, {
    ...{ name, seed, epochs },
    valid: kept.length > 0 ? kept : undefined,
    unknown: unknown > 0 ? unknown : undefined,
    onNote: (note) => tell({ kind: "note", note }),
    onProgress(done, total) {
      if (performance.now() - told < PROGRESS_MS) return;
      told = performance.now();
      tell({ kind: "progress", done, total });
    },
    onEpoch(report) {
      tell({ kind: "epoch", report });
      return !isStopped;
    },
  });
  const [wasm, elb, model] = [await trained.wasm(), await trained.elb(), await trained.model()];
  const evaluator = new Evaluator(model.labels);
  const answers = kept.map((sample): Answered => {
    const { text, line } = sample;
    const given = model.classify(text);
    evaluator.add(sample, given);
    const answer = givenLabels(given).map(({ label }) => label);
    return { line, text, truth: labelsOfSample(sample), answer, score: given.score, isRight: isRight(sample, given) };
  });
  const counts = new Map<string, number>();
  for (const label of training.flatMap(labelsOfSample)) counts.set(label, (counts.get(label) ?? 0) + 1);
  tell({
    kind: "done",
    ...{ wasm, elb, answers, counts },
    evaluation: kept.length > 0 ? evaluator.evaluate() : null,
    seconds: (performance.now() - started) / 1000,
    epochsLeft: trained.epochsLeft,
  });
}
