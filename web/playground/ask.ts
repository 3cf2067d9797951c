// The box in which a model is tried: a text in, its label, the words that led to it, and the other labels out.
import { kilobytes, percent } from "../../host/figures.ts";
import { HEAT_NOTE, segmentsOf } from "../../host/report/heat-map.ts";
import type { Answer, Explanation, Model } from "../index.ts";
import { bar, button, element, foreign, scrolling } from "./dom.ts";
import { counted } from "./figures.ts";

/** Labels that are shown below the best one; the others on request. */
const SHOWN = 6;
/** More characters than this between two words are not there by chance. */
const LONG_GAP = 100;

/** What is asked: a model in the page, or a service. */
export interface Asked {
  /** With the scores of all labels, and an explanation of `why`, by default of the best label. */
  answer(text: string, why?: string): Answer | Promise<Answer>;
  /** How long typing must pause before it is asked. */
  delayMs?: number;
  /** The most tokens of a text that it reads, if that is known. */
  mostTokens?: number;
}

export interface AskBox {
  root: HTMLElement;
  /** Changes what is asked, and asks it about the text; `examples` are offered as texts. */
  use(asked: Asked, examples: readonly string[]): void;
  focus(): void;
}

export function createAskBox(id: string): AskBox {
  const text = element("textarea", {
    id,
    rows: 3,
    placeholder: "Type or paste a text",
    spellcheck: "false",
    disabled: true,
    dir: "auto",
  });
  const chips = element("div", { class: "chips", role: "group", "aria-label": "Example texts" });
  const answer = element("div", { class: "answer" });
  let asked: Asked | undefined;
  let showsAll = false;
  /** The label that is explained, if it was chosen. */
  let why: string | undefined;
  /** Of questions: an answer that comes after a later question is not shown. */
  let turn = 0;

  async function show(): Promise<void> {
    const own = ++turn;
    if (asked === undefined || text.value.trim() === "") {
      answer.replaceChildren(element("p", { class: "empty" }, "The label appears here as you type."));
      return;
    }
    try {
      const { delayMs } = asked;
      if (delayMs !== undefined) await new Promise((resolve) => setTimeout(resolve, delayMs));
      if (own !== turn) return;
      const found = await asked.answer(text.value, why);
      if (own !== turn) return;
      answer.replaceChildren(...answered(found, asked.mostTokens));
      showWords();
    } catch (error) {
      if (own !== turn) return;
      answer.replaceChildren(
        element("p", { class: "alert" }, `This text cannot be classified. ${(error as Error).message}`),
      );
    }
  }

  /** Scrolls a long text to the words that count. */
  function showWords(): void {
    const words = answer.querySelector(".words");
    const first = words?.querySelector(".word");
    if (words && first)
      words.scrollTop = first.getBoundingClientRect().top - words.getBoundingClientRect().top - words.clientHeight / 3;
  }

  /** A label with its score; a press explains it, or no longer. */
  function row(name: string, score: number, explained: string): HTMLElement {
    const press = button(
      "",
      async () => {
        why = why === name ? undefined : name;
        await show();
        // The rows are made anew, and the keyboard should stay where it was.
        [...answer.querySelectorAll("button")].find(({ textContent }) => textContent === name)?.focus();
      },
      "reason",
    );
    press.append(foreign(name));
    press.title = "Why, or why not";
    press.setAttribute("aria-pressed", String(name === explained));
    return element("li", {}, press, bar(score), element("span", { class: "share" }, percent(score, 1)));
  }

  function answered(
    { label, score, labels, scores = {}, explanation }: Answer,
    mostTokens?: number,
  ): (HTMLElement | string)[] {
    // Objects have labels that are whole numbers first.
    const ranked = Object.entries(scores).sort(([, a], [, b]) => b - a);
    const given = new Set(labels ? labels.map((each) => each.label) : label === null ? [] : [label]);
    const others = ranked.filter(([name]) => !given.has(name));
    const rows = (each: readonly [string, number][]): HTMLElement[] =>
      each.map(([name, share]) => row(name, share, explanation!.label));
    const { heat, isCut } = heatOf(text.value, explanation!);
    const isNone = given.size === 0;
    const explained = element("span", {}, "for ", foreign(explanation!.label));
    const shown = showsAll ? others : others.slice(0, SHOWN);
    const more = button(showsAll ? "Show fewer" : `Show all ${others.length}`, () => {
      showsAll = !showsAll;
      void show();
    });
    return [
      labels && !isNone
        ? element(
            "div",
            { role: "status" },
            element("ol", { class: "others given" }, ...rows(labels.map((each) => [each.label, each.score]))),
          )
        : element(
            "p",
            { class: "best", role: "status" },
            isNone
              ? element("strong", {}, "None of its labels")
              : element("strong", { class: "label" }, foreign(label!)),
            element("span", { class: "share" }, isNone ? "" : percent(score, 1)),
          ),
      isNone
        ? element(
            "p",
            { class: "hint" },
            labels
              ? "No label has a score that is high enough for the model to give it."
              : "The model knows no such texts, and says so instead of guessing.",
          )
        : labels
          ? ""
          : bar(score),
      element("h2", {}, "Why"),
      scrolling("Words and their shares in the score", heat, "words"),
      element(
        "p",
        { class: "legend" },
        element("span", {}, "against"),
        element("i"),
        explained,
        element("span", {}, HEAT_NOTE),
        isCut && mostTokens !== undefined
          ? element("span", {}, `What is grey is not read: ${mostTokens} words are the most that count.`)
          : undefined,
      ),
      ...(others.length === 0
        ? []
        : [
            element("h2", {}, isNone ? "Closest labels" : "Other labels"),
            element("ol", { class: "others" }, ...rows(shown)),
            ...(others.length > SHOWN ? [more] : []),
          ]),
    ];
  }

  text.addEventListener("input", () => void show());
  void show();
  return {
    root: element(
      "div",
      { class: "ask" },
      element("div", {}, element("label", { for: id }, "Text"), text, chips),
      answer,
    ),
    use(used, examples) {
      asked = used;
      why = undefined;
      text.disabled = false;
      chips.replaceChildren(
        ...examples.map((example) => {
          const chip = button(example, () => {
            text.value = example;
            void show();
          });
          chip.dir = "auto";
          return chip;
        }),
      );
      void show();
    },
    focus: () => text.focus(),
  };
}

/** The text, its words coloured by their shares; `isCut` if it has a long part that the model does not read. */
function heatOf(text: string, explanation: Explanation): { heat: HTMLElement; isCut: boolean } {
  const heat = element("p", { class: "heat", dir: "auto" });
  let isCut = false;
  for (const { text: part, token } of segmentsOf({ text: new TextEncoder().encode(text), explanation })) {
    if (!token) {
      const isUnread = part.length > LONG_GAP;
      isCut ||= isUnread;
      heat.append(isUnread ? element("span", { class: "unread" }, part) : part);
      continue;
    }
    const word = element(
      "span",
      { class: token.share < 0 ? "word against" : "word", title: token.share.toFixed(4) },
      part,
    );
    word.style.setProperty("--strength", token.strength.toFixed(3));
    heat.append(token.printed === undefined ? word : element("ruby", {}, word, element("rt", {}, token.printed)));
  }
  return { heat, isCut };
}

/** A model in the page, as what is asked. */
export function asAsked(model: Model): Asked {
  return {
    answer: (text, why) => model.classify(text, { topK: model.labels.length, explain: why ?? true }),
    mostTokens: model.info.tokenizer.sequence_length,
  };
}

/** What a model is, in a line. */
export function describeModel(model: Model, fileBytes: number): string {
  const { labels, version, info } = model;
  const engine = info.file_bytes < fileBytes ? `, of it the model ${kilobytes(info.file_bytes)}` : "";
  return `${counted(labels.length, "label")}, ${info.form}, ${kilobytes(fileBytes)}${engine}${version === "" ? "" : `, version ${version}`}`;
}
