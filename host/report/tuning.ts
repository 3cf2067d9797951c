// The trials of `train --tune` as a table for people, and as a picture.
import { percent } from "../figures.ts";
import { renderPicture } from "./chart.ts";

export interface Trial {
  what: string;
  /** As train() of the library takes them. */
  settings: object;
  /** Share of the texts that were right: those of all parts, or of the first one when it was given up or does not fit. */
  accuracy: number;
  /** Of the deployable. */
  bytes: number;
  /** For a text, from its bytes to the label. */
  microseconds: number;
  isGivenUp: boolean;
  /** Within the largest size and time that were asked for. */
  fits: boolean;
}

export interface Tuned {
  /** Texts that a trial was measured on. */
  n: number;
  trials: Trial[];
  /** Those that fit, the one to take first: the most accurate, or the recipe as it is where that may well be as good. */
  ranked: Trial[];
}

/** `accuracy` is what the share of right texts is called. */
export function renderTrials({ n, trials }: Tuned, chosen: Trial, accuracy = "accuracy"): string {
  const width = Math.max(9, accuracy.length + 1);
  const columns = `${accuracy.padStart(width)}${"size".padStart(11)}${"µs a text".padStart(11)}  settings`;
  const rows = trials.map((trial) => {
    const { what, accuracy: share, bytes, microseconds, isGivenUp, fits } = trial;
    const remark = isGivenUp ? ", given up" : fits ? "" : ", too large or too slow";
    return `${percent(share).padStart(width)}${`${(bytes / 1024).toFixed(0)} KB`.padStart(11)}${microseconds.toFixed(1).padStart(11)} ${trial.what === chosen.what ? "*" : " "}${what}${remark}`;
  });
  return `${[`${trials.length} trials, each on ${n} texts that it was not trained on:`, columns, ...rows].join("\n")}\n`;
}

/** Accuracy over size. The line joins those that no smaller one beats. */
export function renderTrialsChart(title: string, { trials }: Tuned, chosen: Trial): string {
  const measured = trials
    .filter(({ isGivenUp }) => !isGivenUp)
    .sort((a, b) => a.bytes - b.bytes || b.accuracy - a.accuracy);
  const point = ({ bytes, accuracy }: Trial) => ({ at: bytes / 1024, value: accuracy });
  const front: Trial[] = [];
  for (const trial of measured) if (trial.accuracy > (front.at(-1)?.accuracy ?? 0)) front.push(trial);
  const sizes = measured.map(({ bytes }) => bytes / 1024);
  const [first, last] = [sizes[0]!, sizes.at(-1)!];
  return renderPicture(
    title,
    [
      {
        title: "Right, of texts that a model was not trained on",
        width: 480,
        lines: [
          {
            name: "best of its size",
            kind: "first",
            points: front.map(point),
            best: { ...point(chosen), is: "chosen" },
          },
          { name: "others", kind: "second", isLoose: true, points: measured.filter((each) => !front.includes(each)).map(point) }, // prettier-ignore
        ],
        show: (value) => percent(value, 1),
      },
    ],
    { name: "size of the model, KB", first, last, ticks: [first, last], show: (at) => at.toFixed(0) },
  );
}
