// Texts that wait for a label: one at a time, with a key for each label.
import { percent } from "../../host/figures.ts";
import { bar, button, element, find, foreign } from "../playground/dom.ts";
import { counted } from "../playground/figures.ts";
import { ask } from "./asking.ts";
import type { Info } from "./info.ts";

interface Doubtful {
  id: number;
  text: string;
  label: string | null;
  score: number;
  why: "unknown" | "uncertain" | "chance";
}

interface Review {
  labels: string[];
  newLabels: boolean;
  canLearn: boolean;
  waiting: number;
  labelled: number;
  texts: Doubtful[];
}

/** One for each label, in order; with more labels, the others have none. */
const KEYS = "1234567890abcdefghijklmnopqrtvwxyz";
const SKIP = "s";
const UNDO = "u";
const WHY = {
  unknown: "The model took it for none of its labels.",
  uncertain: "The model is not sure.",
  chance: "Taken by chance: the model is sure, and may be wrong.",
};

let model = "";

/** Shows the texts of a model to label, if the user may see them. `onGiven` is called when a command has been given. */
export function showReview({ models, may }: Info, onGiven: () => void): void {
  find("review").hidden = !may.review || models.length === 0;
  if (find("review").hidden) return;
  model = models.some(({ name }) => name === model) ? model : models[0]!.name;
  const box = element("div", {
    class: "label-box",
    role: "group",
    tabindex: 0,
    "aria-label": "A text to label; keys give labels",
  });
  const select = element(
    "select",
    { id: "reviewed" },
    ...models.map(({ name }) => element("option", { value: name, selected: name === model }, name)),
  );
  select.addEventListener("change", () => {
    model = select.value;
    load();
  });

  let keys = new Map<string, () => void>();
  /** Texts that were judged here, in order: one that is taken back is the next to judge. */
  const judged: number[] = [];
  const send = (body?: { id?: number; label?: string; skip?: true; undo?: true; learn?: true }): void => {
    ask<Review | { id: string }>(`/review/${encodeURIComponent(model)}`, body).then(
      (answer) => {
        if (body?.id !== undefined) judged.push(body.id);
        const restored = body?.undo ? judged.pop() : undefined;
        if ("texts" in answer) show(answer, restored);
        else {
          onGiven();
          load();
        }
      },
      (error: Error) => box.prepend(element("p", { class: "alert", role: "alert" }, error.message)),
    );
  };
  const load = (): void => send();

  function show({ labels, newLabels, canLearn, waiting, labelled, texts }: Review, restored?: number): void {
    const text = texts.find(({ id }) => id === restored) ?? texts[0];
    keys = new Map();
    const keyed = (key: string, name: string, onPress: () => void): HTMLElement => {
      if (key !== "") keys.set(key, onPress);
      const made = button("", onPress);
      made.append(...(key === "" ? [] : [element("kbd", {}, key)]), foreign(name));
      return made;
    };
    const added = element("input", { id: "new-label", placeholder: "another label", "aria-label": "Another label" });
    const add = (): void => {
      if (text && added.value.trim() !== "") send({ id: text.id, label: added.value.trim() });
    };
    added.addEventListener("keydown", ({ key }) => key === "Enter" && add());
    const done = [
      ...(text ? [keyed(SKIP, "Skip", () => send({ id: text.id, skip: true }))] : []),
      ...(labelled > 0 ? [keyed(UNDO, "Undo", () => send({ undo: true }))] : []),
      ...(labelled > 0 && canLearn
        ? [button(`Learn ${counted(labelled, "label")}`, () => send({ learn: true }), "primary")]
        : []),
      ...(labelled > 0
        ? [
            element(
              "a",
              { href: `/review/${encodeURIComponent(model)}/labels.jsonl`, download: true },
              "Export the labels",
            ),
          ]
        : []),
    ];
    // The keyboard stays where it was.
    const hadFocus = box.contains(document.activeElement);
    box.replaceChildren(
      ...(text
        ? [
            element("p", { class: "quoted", dir: "auto", role: "status" }, text.text),
            element(
              "p",
              { class: "hint" },
              `${WHY[text.why]} `,
              text.label === null ? "Its best score: " : "Its label: ",
              text.label === null ? undefined : foreign(text.label),
              ` ${percent(text.score, 1)}.`,
            ),
            bar(text.score),
            element(
              "div",
              { class: "buttons labels" },
              ...labels.map((label, i) => keyed(KEYS[i] ?? "", label, () => send({ id: text.id, label }))),
            ),
            ...(newLabels ? [element("div", { class: "buttons" }, added, button("Add", add))] : []),
          ]
        : [element("p", { class: "empty" }, "No text waits for a label.")]),
      element("div", { class: "buttons" }, ...done),
      element(
        "p",
        { class: "hint" },
        `${counted(waiting, "text")} waiting, ${counted(labelled, "label")} given. ${canLearn ? "" : "This model cannot learn here; export the labels."}`,
      ),
    );
    if (hadFocus) box.focus();
  }

  find("to-label").replaceChildren(
    models.length > 1 ? element("div", { class: "field" }, element("label", { for: "reviewed" }, "Model"), select) : "",
    box,
  );
  box.onkeydown = (event) => {
    const { key, target, ctrlKey, metaKey, altKey } = event;
    if (ctrlKey || metaKey || altKey || target instanceof HTMLInputElement || target instanceof HTMLSelectElement)
      return;
    const press = keys.get(key.toLowerCase());
    if (!press) return;
    event.preventDefault();
    press();
  };
  load();
}
