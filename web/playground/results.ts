// What came of the texts and of a run, as elements: faults of the data; figures, files, the confusion
// matrix with the texts behind each cell, and the wrong answers with what may have caused them.
import { kilobytes, percent } from "../../host/figures.ts";
import { mostConfused } from "../../host/report/evaluation.ts";
import type { DataReport, Evaluation, Model } from "../index.ts";
import { asAsked, createAskBox } from "./ask.ts";
import { button, download, element, foreign, scrolling } from "./dom.ts";
import { counted } from "./figures.ts";
import type { Answered, Choices, Done } from "./jobs.ts";
import { reasonFinder } from "./reasons.ts";

/** More than this are counted only. */
const MOST_SHOWN = 100;
const MOST_GROUPS = 20;
/** A larger matrix is cut down to the labels that are confused most. */
const MOST_LABELS = 24;

/** What is wrong with the texts. */
export function findingsOf(report: DataReport, skipped: number): HTMLElement[] {
  const { texts, labels, several, duplicates, conflicts, empty, doubts, similar_labels: similar } = report;
  const counts = Object.values(labels);
  const least = counts.reduce((a, b) => Math.min(a, b), Infinity);
  const most = counts.reduce((a, b) => Math.max(a, b), 0);
  const each = least === most ? `${least} of each` : `${least} to ${most} of each`;
  const lines = (places: readonly { line: number }[]): string =>
    places
      .map(({ line }) => line)
      .slice(0, 8)
      .join(", ") + (places.length > 8 ? ", …" : "");
  const copies = duplicates.exact + duplicates.alike;
  return [
    element(
      "p",
      { class: "sum" },
      element("strong", {}, counted(texts, "text")),
      `, ${counted(counts.length, "label")}, ${each}`,
      several ? `; ${several.mean.toFixed(1)} labels a text, and ${counted(several.none, "text")} without any` : "",
    ),
    ...(skipped > 0
      ? [
          element(
            "p",
            { class: "hint" },
            `${counted(skipped, "text")} without a label, or labels without a text, left out.`,
          ),
        ]
      : []),
    ...doubts.map((doubt) => finding(doubt)),
    ...similar.map((group) => finding(`Labels that look alike: ${group.join(", ")}.`)),
    ...(empty.length > 0 ? [finding(`${counted(empty.length, "text")} without any word or sign that is read.`)] : []),
    ...(conflicts.texts > 0
      ? [
          finding(
            `${counted(conflicts.texts, "text")} with the same words but different labels: no model can get all of them right.`,
            conflicts.groups.map(({ text, labels: places }) =>
              element(
                "li",
                {},
                foreign(text),
                element(
                  "small",
                  {},
                  ...Object.entries(places).flatMap(([label, at], i) => [
                    i === 0 ? " as " : ", as ",
                    label === "" ? "no label" : foreign(label),
                    ` in line ${lines(at)}`,
                  ]),
                ),
              ),
            ),
          ),
        ]
      : []),
    ...(copies > 0
      ? [
          finding(
            `${counted(copies, "text")} that the model cannot tell from another one with the same label.`,
            duplicates.groups.map(({ text, places }) =>
              element("li", {}, foreign(text), element("small", {}, ` in lines ${lines(places)}`)),
            ),
          ),
        ]
      : []),
  ];
}

function finding(text: string, items: readonly HTMLElement[] = []): HTMLElement {
  if (items.length === 0) return element("p", { class: "finding" }, text);
  const more = items.length - MOST_GROUPS;
  return element(
    "details",
    { class: "finding" },
    element("summary", {}, text),
    element("ul", {}, ...items.slice(0, MOST_GROUPS), more > 0 ? element("li", {}, `and ${more} more`) : undefined),
  );
}

export interface Outcome {
  model: Model;
  choices: Choices;
  done: Done;
  report: DataReport;
  /** Texts to try. */
  examples: readonly string[];
  /** Takes the model to the side that tries models. */
  onTry(): void;
}

export function renderResults({ model, choices, done, report, examples, onTry }: Outcome): HTMLElement[] {
  const { evaluation, answers, wasm, elb, seconds, epochsLeft } = done;
  const figures: [string, string][] = [
    ...(evaluation
      ? ([
          ...(evaluation.micro_f1 === undefined
            ? ([["right, of new texts", percent(evaluation.accuracy, 1)]] as [string, string][])
            : ([
                ["micro F1", evaluation.micro_f1.toFixed(3)],
                ["exactly right", percent(evaluation.accuracy, 1)],
              ] as [string, string][])),
          ["new texts", String(evaluation.n)],
          ...(evaluation.coverage < 1
            ? ([
                ["get an answer", percent(evaluation.coverage, 1)],
                ...(evaluation.micro_f1 === undefined
                  ? [["right, of these", percent(evaluation.accepted_accuracy, 1)]]
                  : []),
              ] as [string, string][])
            : []),
        ] as [string, string][])
      : []),
    ["model", kilobytes(wasm.length)],
  ];
  const box = createAskBox("trained-text");
  box.use(asAsked(model), examples);
  return [
    element("h2", {}, "The model “", foreign(choices.name), epochsLeft > 0 ? "”, stopped early" : "”"),
    element(
      "dl",
      { class: "figures" },
      ...figures.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))),
    ),
    element(
      "div",
      { class: "buttons" },
      button("Download .wasm", () => download(`${choices.name}.wasm`, wasm), "primary"),
      button("Download .elb", () => download(`${choices.name}.elb`, elb)),
      button("Open it under “Try a model”", onTry),
    ),
    element(
      "p",
      { class: "hint" },
      `Trained in ${seconds.toFixed(1)} s. The .wasm is what you deploy: model and engine in one file. The .elb can be trained on, and learns from corrections.${evaluation?.micro_f1 === undefined ? "" : " The new texts have also decided which score a label must have to be given."}`,
    ),
    element("h2", {}, "Try it"),
    box.root,
    ...(evaluation
      ? measured(evaluation, answers, reasonFinder(report, done.counts))
      : [element("p", { class: "hint" }, "No texts were kept aside, so there is nothing to measure the model on.")]),
  ];
}

function measured(
  evaluation: Evaluation,
  answers: readonly Answered[],
  reasons: (answer: Answered) => string[],
): HTMLElement[] {
  const wrong = answers.filter(({ isRight }) => !isRight).sort((a, b) => b.score - a.score);
  return [
    ...(evaluation.micro_f1 === undefined ? confusionOf(evaluation, answers, reasons) : []),
    element("h2", {}, "Labels"),
    labelsOf(evaluation),
    element("h2", {}, "Wrong answers"),
    ...(wrong.length === 0
      ? [element("p", {}, "There are none.")]
      : [
          element("p", {}, "The most confident ones come first; look there for faults in the data."),
          answersOf("Wrong answers", wrong, reasons),
        ]),
  ];
}

/** Of a model that gives one label. */
function confusionOf(
  evaluation: Evaluation,
  answers: readonly Answered[],
  reasons: (answer: Answered) => string[],
): HTMLElement[] {
  const behind = element("div", { class: "behind", "aria-live": "polite" });
  return [
    element("h2", {}, "Confusion matrix"),
    element("p", {}, "Rows are true labels, columns the answers. Choose a cell to see its texts."),
    matrixOf(evaluation, (i, j) => {
      const truth = evaluation.labels[i]!;
      const answer = j === null ? undefined : evaluation.labels[j]!;
      const found = answers.filter((each) => each.truth[0] === truth && each.answer[0] === answer);
      behind.replaceChildren(
        element(
          "h3",
          {},
          foreign(truth),
          answer === truth ? ", as it should be" : answer === undefined ? ", rejected" : ", answered ",
          answer === truth || answer === undefined ? undefined : foreign(answer),
        ),
        answersOf("Texts of the cell", found, reasons),
      );
    }),
    behind,
  ];
}

function matrixOf(evaluation: Evaluation, onCell: (truth: number, answer: number | null) => void): HTMLElement {
  const { labels, confusion, rejected } = evaluation;
  const chosen = mostConfused(evaluation, MOST_LABELS);
  const hasRejected = rejected.some((count) => count > 0);
  const cell = (i: number, j: number | null, total: number): HTMLElement => {
    const count = j === null ? rejected[i]! : confusion[i]![j]!;
    if (count === 0) return element("td", {}, "·");
    const shown = button(String(count), () => {
      for (const pressed of table.querySelectorAll("[aria-pressed=true]"))
        pressed.setAttribute("aria-pressed", "false");
      shown.setAttribute("aria-pressed", "true");
      onCell(i, j);
    });
    shown.setAttribute("aria-pressed", "false");
    shown.setAttribute(
      "aria-label",
      `${counted(count, "text")} of ${labels[i]!}, ${j === null ? "rejected" : `answered ${labels[j]!}`}`,
    );
    const made = element("td", { class: i === j ? "right" : "wrong" }, shown);
    made.style.setProperty("--share", (count / total).toFixed(3));
    return made;
  };
  const head = (content: HTMLElement | string): HTMLElement =>
    element("th", { scope: "col" }, element("span", {}, content));
  const rows = chosen.map((i) => {
    const total = confusion[i]!.reduce((sum, count) => sum + count, rejected[i]!);
    return element(
      "tr",
      {},
      element("th", { scope: "row" }, foreign(labels[i]!)),
      ...chosen.map((j) => cell(i, j, total)),
      hasRejected ? cell(i, null, total) : undefined,
    );
  });
  const table = element(
    "table",
    { class: "matrix" },
    element(
      "thead",
      {},
      element(
        "tr",
        {},
        element("th", { scope: "col" }, "true"),
        ...chosen.map((j) => head(foreign(labels[j]!))),
        hasRejected ? head("rejected") : undefined,
      ),
    ),
    element("tbody", {}, ...rows),
  );
  const note =
    labels.length > chosen.length && chosen.length === MOST_LABELS
      ? element("p", { class: "hint" }, `The ${MOST_LABELS} labels that are confused most, of ${labels.length}.`)
      : undefined;
  return element("div", {}, note, scrolling("Confusion matrix", table));
}

function labelsOf({ labels, per_class }: Evaluation): HTMLElement {
  const heads = ["label", "precision", "recall", "F1", "texts"].map((name) => element("th", { scope: "col" }, name));
  const rows = labels.map((label) => {
    const { precision, recall, f1, support } = per_class[label]!;
    return element(
      "tr",
      {},
      element("th", { scope: "row" }, foreign(label)),
      ...[precision, recall, f1].map((value) => element("td", {}, value.toFixed(3))),
      element("td", {}, String(support)),
    );
  });
  return scrolling(
    "Figures of each label",
    element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows)),
    "tall",
  );
}

function named(labels: readonly string[]): (HTMLElement | string)[] {
  if (labels.length === 0) return ["no label"];
  return labels.flatMap((label, i) => [i === 0 ? "" : ", ", foreign(label)]);
}

function answersOf(name: string, answers: readonly Answered[], reasons: (answer: Answered) => string[]): HTMLElement {
  const more = answers.length - MOST_SHOWN;
  const items = answers.slice(0, MOST_SHOWN).map((each) => {
    const { text, truth, answer, score, isRight, line } = each;
    const share = answer.length > 1 ? "" : ` ${percent(score, 1)}`;
    const verdict = isRight
      ? [...named(truth), share]
      : [...named(answer), `${share} instead of `, element("strong", {}, ...named(truth))];
    const why = isRight ? [] : reasons(each);
    return element(
      "li",
      {},
      element("p", { dir: "auto", class: "quoted" }, text),
      element("p", { class: "verdict" }, ...verdict, element("span", { class: "place" }, `line ${line}`)),
      why.length > 0 ? element("ul", { class: "why" }, ...why.map((reason) => element("li", {}, reason))) : undefined,
    );
  });
  const list = element(
    "ol",
    { class: "answers" },
    ...items,
    more > 0 ? element("li", { class: "hint" }, `and ${more} more`) : undefined,
  );
  return scrolling(name, list, "tall");
}
