// Why a text that the model was not trained on may have got the wrong label: faults of the data, in
// words for people, the most telling one first.
import type { DataReport } from "../index.ts";
import type { Answered } from "./jobs.ts";

/** With fewer texts of a label, the model has seen too little of it. */
const FEW_TEXTS = 20;
/** Above it, the label itself deserves a look; below the other, it was a guess. */
const SURE = 0.9;
const UNSURE = 0.5;
const LINES = 5;

/** `counts`: texts of each label that were trained on. Returns the reasons for one answer, none if there is nothing to be said. */
export function reasonFinder(
  { conflicts, duplicates }: Pick<DataReport, "conflicts" | "duplicates">,
  counts: ReadonlyMap<string, number>,
): (answer: Answered) => string[] {
  const conflicting = new Map<number, Record<string, readonly number[]>>();
  for (const { labels } of conflicts.groups) {
    const lines = Object.fromEntries(
      Object.entries(labels).map(([label, places]) => [label, places.map(({ line }) => line)]),
    );
    for (const line of Object.values(lines).flat()) conflicting.set(line, lines);
  }
  const copies = new Map<number, readonly number[]>();
  for (const { places } of duplicates.groups) {
    const lines = places.map(({ line }) => line);
    for (const line of lines) copies.set(line, lines);
  }
  return ({ line, truth, answer, score }) => {
    // As the report of the data names several.
    const joined = truth.join(", ");
    const others = Object.entries(conflicting.get(line) ?? {}).filter(([label]) => label !== joined);
    const same = (copies.get(line) ?? []).filter((each) => each !== line);
    const few = truth
      .map((label) => ({ label, texts: counts.get(label) ?? 0 }))
      .filter(({ texts }) => texts < FEW_TEXTS);
    const isOneOfEach = truth.length === 1 && answer.length === 1;
    return [
      ...others.map(([label, lines]) =>
        label === ""
          ? `The same words have no label in ${listed(lines)}.`
          : `The same words have the label “${label}” in ${listed(lines)}.`,
      ),
      ...few.map(({ label, texts }) => `Only ${texts} text${texts === 1 ? "" : "s"} of “${label}” to learn from.`),
      ...(same.length > 0 ? [`The same words are also in ${listed(same)}.`] : []),
      ...(isOneOfEach && score >= SURE ? ["The model is sure: is the label right?"] : []),
      ...(isOneOfEach && score < UNSURE ? ["A guess: no label has a high score."] : []),
    ];
  };
}

function listed(lines: readonly number[]): string {
  const more = lines.length - LINES;
  return `line${lines.length === 1 ? "" : "s"} ${lines.slice(0, LINES).join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}
