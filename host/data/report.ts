// What is wrong with labelled texts, before they are trained on: samples of one or more
// files in; counts, duplicates, conflicts and unusual lengths out. Two texts are alike when
// they have the same tokens, since a model sees nothing else.
import { MAX_LABELS } from "../../assembly/abi.ts";
import { labelsOf, labelsOfSample, type Sample } from "./dataset.ts";
import { excerpt, listed } from "../errors.ts";
import { LabelFigures } from "./survey.ts";

export interface Source {
  file: string;
  samples: readonly Sample[];
}

interface Place {
  file: string;
  line: number;
}

export interface DataReport {
  texts: number;
  /** Texts of each label. */
  labels: Record<string, number>;
  /** Where texts have several labels: how many they have on average, and how many texts have none. */
  several?: { mean: number; none: number };
  /** Texts of the most frequent label, divided by those of the rarest. */
  imbalance: number;
  tokens: { median: number; p95: number; longest: number };
  /** Within each group of alike texts with the same label, the texts beyond the first: those that are equal byte by byte, and those that only have the same tokens. */
  duplicates: { exact: number; alike: number; groups: { text: string; label: string; places: Place[] }[] };
  /** Texts that are alike but have different labels, so that no model can get all of them right. */
  conflicts: { texts: number; groups: { text: string; labels: Record<string, Place[]> }[] };
  /** Texts without any token. */
  empty: { text: string; place: Place }[];
  /** How many texts have only one token. */
  single: number;
  /** Texts with more tokens than the model keeps. */
  long: { limit: number; texts: { tokens: number; place: Place }[] };
  /** Validation texts that are alike to a training text. */
  overlap: { texts: number; places: Place[] } | null;
  /** Signs that the labels are not what was meant, in sentences. */
  doubts: string[];
  /** Labels, also of validation texts, that people would take for the same. */
  similar_labels: string[][];
  /** Labels that only validation texts have; `train` refuses them. */
  strange_labels: Record<string, Place[]> | null;
}

interface Seen {
  text: string;
  label: string;
  place: Place;
}

const SHOWN = 10;
/** With fewer texts than this, labels that occur only once are normal. */
const FEW_TEXTS = 8;
const WRONG_WAY = "Are label and text the wrong way round?";

/** `tokens` says how the model would split a text; `limit` is how many tokens it keeps. */
export function reportData(
  sources: readonly Source[],
  validation: readonly Source[] | null,
  tokens: (text: string) => string[],
  limit: number,
): DataReport {
  const figures = new LabelFigures();
  const groups = new Map<string, Seen[]>();
  const lengths: number[] = [];
  const empty: DataReport["empty"] = [];
  const long: DataReport["long"]["texts"] = [];
  let single = 0;
  let several = 0;
  let unlabelled = 0;
  for (const { file, samples } of sources) {
    for (const { text, label: joined, labels, line } of samples) {
      const label = labels ? labels.join(", ") : joined;
      const list = tokens(text);
      const place = { file, line };
      figures.add({ label: joined, labels, text });
      if (labels?.length === 0) unlabelled++;
      several += labels?.length ?? 1;
      lengths.push(list.length);
      if (list.length === 0) empty.push({ text, place });
      if (list.length === 1) single++;
      if (list.length > limit) long.push({ tokens: list.length, place });
      addTo(groups, keyOf(list), { text, label, place });
    }
  }
  lengths.sort((a, b) => a - b);
  const quantile = (share: number): number =>
    lengths[Math.min(lengths.length - 1, Math.floor(share * lengths.length))] ?? 0;
  const labels = [...figures.labels].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1));
  return {
    texts: lengths.length,
    labels: Object.fromEntries(labels),
    ...(figures.isMultiLabel ? { several: { mean: several / lengths.length, none: unlabelled } } : {}),
    imbalance: (labels[0]?.[1] ?? 0) / (labels.at(-1)?.[1] ?? 1),
    tokens: { median: quantile(0.5), p95: quantile(0.95), longest: lengths.at(-1) ?? 0 },
    duplicates: findDuplicates(groups.values()),
    conflicts: findConflicts(groups.values()),
    empty,
    single,
    long: { limit, texts: long },
    doubts: doubtsOf(figures),
    similar_labels: similarLabels(labelsOf([...sources, ...(validation ?? [])].flatMap(({ samples }) => samples))),
    overlap: validation && findOverlap(validation, groups, tokens),
    strange_labels: validation && findStrangeLabels(validation, figures.labels),
  };
}

/** Signs that these labels are not what was meant, in sentences. */
export function doubtsOf({ texts, labels, first, different }: LabelFigures): string[] {
  const once = [...labels].filter(([, count]) => count === 1).map(([label]) => label);
  if (different < labels.size) return [swapped(labels.size, different)];
  if (texts >= FEW_TEXTS && 2 * labels.size > texts)
    return [
      `there are ${labels.size} labels for ${texts} texts, such as ${excerpt(once[0] ?? "")}; a label needs several texts. ${WRONG_WAY}`,
    ];
  if (first !== undefined && labels.size > 2 && once.length === 1 && once[0] === first)
    return [
      `only the first text has the label ${excerpt(first)}; is that a header? Name its columns with --text-column and --label-column`,
    ];
  return [];
}

/** Fewer texts than labels: no model can give all of the labels. */
export function swapped(labels: number, texts: number): string {
  return `there are ${labels} labels, but only ${texts} different text${texts === 1 ? "" : "s"}. ${WRONG_WAY}`;
}

/** Groups of labels that look alike, or differ in letter case or as numbers are written. */
export function similarLabels(labels: readonly string[]): string[][] {
  const groups = new Map<string, string[]>();
  for (const label of labels) {
    const seen = label
      .normalize("NFKC")
      .replace(/[\p{Cf}\ufe00-\ufe0f]/gu, "")
      .replace(/\s+/g, " ")
      .trim();
    addTo(groups, seen.toLowerCase().replace(/^(-?\d+)\.0+$/, "$1"), label);
  }
  return [...groups.values()].filter((group) => group.length > 1);
}

function addTo<Value>(lists: Map<string, Value[]>, key: string, value: Value): void {
  const list = lists.get(key);
  if (list) list.push(value);
  else lists.set(key, [value]);
}

/** Different for different lists of tokens, whatever characters they hold. */
function keyOf(tokens: readonly string[]): string {
  return JSON.stringify(tokens);
}

function findDuplicates(groups: Iterable<Seen[]>): DataReport["duplicates"] {
  const found: DataReport["duplicates"] = { exact: 0, alike: 0, groups: [] };
  for (const group of groups) {
    for (const [label, members] of byLabel(group)) {
      if (members.length < 2) continue;
      const distinct = new Set(members.map(({ text }) => text)).size;
      found.exact += members.length - distinct;
      found.alike += distinct - 1;
      found.groups.push({ text: members[0]!.text, label, places: members.map(({ place }) => place) });
    }
  }
  return found;
}

function findConflicts(groups: Iterable<Seen[]>): DataReport["conflicts"] {
  const found: DataReport["conflicts"] = { texts: 0, groups: [] };
  for (const group of groups) {
    const labels = byLabel(group);
    if (labels.size < 2) continue;
    found.texts += group.length;
    found.groups.push({
      text: group[0]!.text,
      labels: Object.fromEntries([...labels].map(([label, members]) => [label, members.map(({ place }) => place)])),
    });
  }
  return found;
}

function byLabel(group: readonly Seen[]): Map<string, Seen[]> {
  const labels = new Map<string, Seen[]>();
  for (const seen of group) addTo(labels, seen.label, seen);
  return labels;
}

function findOverlap(
  validation: readonly Source[],
  groups: ReadonlyMap<string, unknown>,
  tokens: (text: string) => string[],
): DataReport["overlap"] {
  const places = validation.flatMap(({ file, samples }) =>
    samples.filter(({ text }) => groups.has(keyOf(tokens(text)))).map(({ line }) => ({ file, line })),
  );
  return { texts: places.length, places };
}

function findStrangeLabels(
  validation: readonly Source[],
  known: ReadonlyMap<string, unknown>,
): Record<string, Place[]> {
  const found = new Map<string, Place[]>();
  for (const { file, samples } of validation) {
    for (const sample of samples)
      for (const label of labelsOfSample(sample))
        if (!known.has(label)) addTo(found, label, { file, line: sample.line });
  }
  return Object.fromEntries(found);
}

// --- for people ------------------------------------------------------------------

export function renderReport(report: DataReport): string {
  const {
    texts,
    labels,
    several,
    imbalance,
    tokens,
    duplicates,
    conflicts,
    empty,
    single,
    long,
    doubts,
    similar_labels: similar,
    overlap,
    strange_labels: strange,
  } = report;
  const names = Object.keys(labels);
  // Sorted again, since objects list integer keys first.
  const ranked = Object.entries(labels).sort(([, n], [, m]) => m - n);
  const width = names.reduce((most, { length }) => Math.max(most, Math.min(40, length)), 5);
  const lines = [
    `${texts} texts, ${names.length} label${names.length === 1 ? "" : "s"}`,
    "",
    `${"label".padEnd(width)}  texts    share`,
  ];
  for (const [name, count] of ranked.slice(0, MAX_LABELS))
    lines.push(
      `${name.padEnd(width)} ${String(count).padStart(6)}  ${((100 * count) / texts).toFixed(2).padStart(6)} %`,
    );
  if (ranked.length > MAX_LABELS)
    lines.push(`and ${ranked.length - MAX_LABELS} more; a model tells at most ${MAX_LABELS} labels apart`);
  lines.push("");
  const say = (name: string, text: string): void => void lines.push(`${name.padEnd(12)}${text}`);
  const list = (items: readonly string[]): void => {
    for (const item of items.slice(0, SHOWN)) lines.push(`  ${item}`);
    if (items.length > SHOWN) lines.push(`  and ${items.length - SHOWN} more (--json lists all)`);
  };
  if (several) say("several", `${several.mean.toFixed(2)} labels a text on average; ${several.none} texts without any`);
  for (const doubt of doubts) say("doubt", doubt);
  if (similar.length > 0) {
    say("similar", "labels that look alike, or differ only in letter case or in how a number is written");
    list(similar.map(listed));
  }
  say(
    "balance",
    names.length > 1
      ? `the most frequent label has ${Number(imbalance.toFixed(1))} times the texts of the rarest`
      : "there is only one label",
  );
  say("length", `median ${tokens.median} tokens, 95 % have at most ${tokens.p95}, the longest ${tokens.longest}`);
  say("long", `${long.texts.length} with more than ${long.limit} tokens; what is beyond is cut off`);
  list(long.texts.map(({ tokens: count, place }) => `${at([place])}: ${count} tokens`));
  say("empty", `${empty.length} without any token, ${single} with only one`);
  list(empty.map(({ text, place }) => `${at([place])}: ${excerpt(text)}`));
  say(
    "duplicates",
    `${duplicates.exact} identical to an earlier one, ${duplicates.alike} more that look the same to the model`,
  );
  list(duplicates.groups.map(({ text, label, places }) => `${excerpt(text)} ${label}: ${at(places)}`));
  say("conflicts", `${conflicts.texts} texts that are alike but have different labels`);
  list(
    conflicts.groups.map(
      (group) =>
        `${excerpt(group.text)} ${Object.entries(group.labels)
          .map(([label, places]) => `${label}: ${at(places)}`)
          .join("; ")}`,
    ),
  );
  if (overlap) {
    say("overlap", `${overlap.texts} validation texts that the training data has too`);
    list(overlap.places.map((place) => at([place])));
  }
  if (strange && Object.keys(strange).length > 0) {
    say("strange", "labels of validation texts that the training data lacks");
    list(Object.entries(strange).map(([label, places]) => `${label}: ${at(places)}`));
  }
  return `${lines.join("\n")}\n`;
}

/** "a.tsv:3, 8, b.tsv:1" */
function at(places: readonly Place[]): string {
  let file = "";
  const parts = places.slice(0, SHOWN).map((place) => {
    const part = place.file === file ? String(place.line) : `${place.file}:${place.line}`;
    file = place.file;
    return part;
  });
  return parts.join(", ") + (places.length > SHOWN ? ", …" : "");
}
