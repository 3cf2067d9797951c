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
  /** With the scores of all labels, and an explanation. */
  answer(text: string): Answer | Promise<Answer>;
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
      const found = await asked.answer(text.value);
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

  function answered({ label, score, scores = {}, explanation }: Answer, mostTokens?: number): HTMLElement[] {
    // Objects have labels that are whole numbers first.
    const ranked = Object.entries(scores).sort(([, a], [, b]) => b - a);
    const best = label === null ? undefined : ranked[0];
    const others = best === undefined ? ranked : ranked.slice(1);
    const { heat, isCut } = heatOf(text.value, explanation!);
    const explained = element("span", {}, "for ", foreign(explanation!.label));
    const shown = showsAll ? others : others.slice(0, SHOWN);
    const more = button(showsAll ? "Show fewer" : `Show all ${others.length}`, () => {
      showsAll = !showsAll;
      void show();
    });
    return [
      element(
        "p",
        { class: "best", role: "status" },
        best === undefined
          ? element("strong", {}, "None of its labels")
          : element("strong", { class: "label" }, foreign(best[0])),
        element("span", { class: "share" }, best === undefined ? "" : percent(score, 1)),
      ),
      best === undefined
        ? element("p", { class: "hint" }, "The model knows no such texts, and says so instead of guessing.")
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
            element("h2", {}, best === undefined ? "Closest labels" : "Other labels"),
            element(
              "ol",
              { class: "others" },
              ...shown.map(([name, share]) =>
                element("li", {}, foreign(name), bar(share), element("span", { class: "share" }, percent(share, 1))),
              ),
            ),
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
    answer: (text) => model.classify(text, { topK: model.labels.length, explain: true }),
    mostTokens: model.info.tokenizer.sequence_length,
  };
}

/** What a model is, in a line. */
export function describeModel(model: Model, fileBytes: number): string {
  const { labels, version, info } = model;
  const engine = info.file_bytes < fileBytes ? `, of it the model ${kilobytes(info.file_bytes)}` : "";
  return `${counted(labels.length, "label")}, ${info.form}, ${kilobytes(fileBytes)}${engine}${version === "" ? "" : `, version ${version}`}`;
}
