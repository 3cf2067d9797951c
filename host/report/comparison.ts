// Two models on the same labelled texts: which is right where, and whether the difference may be chance.
import { labelsOfSample, type Sample } from "../data/dataset.ts";
import type { Classifier } from "../model/classifier.ts";
import { renderInterval, mcnemar, scoreInterval } from "./certainty.ts";
import { SetTally } from "./evaluation.ts";
import { isRight } from "../training/label-sets.ts";
import { percent } from "../figures.ts";

/** A difference that chance makes less often than this is taken for real. */
const SIGNIFICANT = 0.05;

/** What `eval A B --json` prints. Accuracies are of all texts; a text that a model rejects as unknown is not right. */
export interface Comparison {
  n: number;
  models: [ComparedModel, ComparedModel];
  both: number;
  neither: number;
  /** Accuracy of the second minus that of the first. */
  difference: number;
  /** Of McNemar's exact test: how often chance alone would make at least this difference. */
  p: number;
}

interface ComparedModel {
  name: string;
  accuracy: number;
  accuracy_interval: [number, number];
  /** Of a model that gives several labels a text; such a text is right if it gets exactly its labels. */
  micro_f1?: number;
  /** Texts that only this one has right. */
  alone: number;
}

type Named = readonly [name: string, Pick<Classifier, "classify">];

export function compare(
  models: readonly [Named, Named],
  samples: readonly Pick<Sample, "label" | "labels" | "text">[],
  onProgress?: (done: number) => void,
): Comparison {
  let [both, onlyFirst, onlySecond] = [0, 0, 0];
  const tallies = models.map(() => new SetTally([]));
  samples.forEach((sample, i) => {
    const [a, b] = models.map(([, model], m) => {
      const answer = model.classify(sample.text);
      if (answer.labels) tallies[m]!.add(labelsOfSample(sample), answer.labels.map(({ label }) => label)); // prettier-ignore
      return isRight(sample, answer);
    });
    if (a && b) both++;
    else if (a) onlyFirst++;
    else if (b) onlySecond++;
    onProgress?.(i + 1);
  });
  const n = samples.length;
  const figures = (m: 0 | 1, alone: number): ComparedModel => {
    const { n: tallied, micro_f1 } = tallies[m]!.evaluate();
    return {
      name: models[m][0],
      accuracy: n === 0 ? 0 : (both + alone) / n,
      accuracy_interval: scoreInterval(both + alone, n),
      ...(tallied > 0 ? { micro_f1 } : {}),
      alone,
    };
  };
  return {
    n,
    models: [figures(0, onlyFirst), figures(1, onlySecond)],
    both,
    neither: n - both - onlyFirst - onlySecond,
    difference: n === 0 ? 0 : (onlySecond - onlyFirst) / n,
    p: mcnemar(onlyFirst, onlySecond),
  };
}

export function renderComparison({ n, models, both, neither, difference, p }: Comparison): string {
  const width = models.reduce((most, { name }) => Math.max(most, name.length), 0);
  const better = difference >= 0 ? models[1] : models[0];
  const chance = p < 0.0001 ? "less than 0.0001" : p.toFixed(4);
  const verdict =
    difference === 0
      ? "They are right equally often."
      : `${better.name} is right on ${Math.abs(models[1].alone - models[0].alone)} more texts (${(100 * Math.abs(difference)).toFixed(2)} points). ` +
        (p < SIGNIFICANT
          ? `That is more than chance: McNemar's p is ${chance}.`
          : `That may well be chance: McNemar's p is ${chance}, and below ${SIGNIFICANT} is asked for. More texts would tell.`);
  return `${[
    ...models.map(
      ({ name, accuracy, accuracy_interval: interval, micro_f1: micro, alone }) =>
        `${name.padEnd(width)}  ${percent(accuracy).padStart(8)} right (95 % interval ${renderInterval(interval)}), alone on ${alone}${micro === undefined ? "" : `; micro F1 ${micro.toFixed(4)}`}`,
    ),
    `${"both".padEnd(width)}  on ${both} of ${n} texts; neither on ${neither}`,
    verdict,
  ].join("\n")}\n`;
}
