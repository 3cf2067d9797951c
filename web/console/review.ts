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
  /** All that the model gave, if it gives several. */
  labels?: { label: string; score: number }[];
  why: "unknown" | "uncertain" | "chance";
}

interface Review {
  labels: string[];
  multiLabel?: true;
  newLabels: boolean;
  canLearn: boolean;
  waiting: number;
  labelled: number;
  texts: Doubtful[];
}

/** One for each label, in order; with more labels, the others have none. */
const KEYS = "1234567890abcdefghijklmnopqrtvwxyz";
const GIVE = "enter";
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
  const send = (body?: { id?: number; label?: string | string[]; skip?: true; undo?: true; learn?: true }): void => {
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

  function show(review: Review, restored?: number): void {
    const { labels, multiLabel, newLabels, canLearn, waiting, labelled, texts } = review;
    const text = texts.find(({ id }) => id === restored) ?? texts[0];
    keys = new Map();
    const keyed = (key: string, name: string, onPress: () => void, kind = ""): HTMLElement => {
      if (key !== "") keys.set(key, onPress);
      const made = button("", onPress, kind);
      made.append(...(key === "" ? [] : [element("kbd", {}, key)]), foreign(name));
      return made;
    };
    /** Of a model that gives several labels: those that are chosen, at first the model's own. */
    const chosen = new Set(text?.labels?.map(({ label }) => label));
    const buttons = element("div", { class: "buttons labels" });
    const give = keyed(GIVE, "", () => send({ id: text!.id, label: [...chosen] }), "primary");
    const showChosen = (): void =>
      give.lastChild!.replaceWith(chosen.size === 0 ? "No label" : counted(chosen.size, "label"));
    showChosen();
    const addLabel = (label: string, key = ""): void => {
      const made = keyed(key, label, () => {
        if (!multiLabel) return send({ id: text!.id, label });
        if (!chosen.delete(label)) chosen.add(label);
        made.setAttribute("aria-pressed", String(chosen.has(label)));
        showChosen();
      });
      if (multiLabel) made.setAttribute("aria-pressed", String(chosen.has(label)));
      buttons.append(made);
    };
    labels.forEach((label, i) => addLabel(label, KEYS[i]));
    const added = element("input", { id: "new-label", placeholder: "another label", "aria-label": "Another label" });
    const add = (): void => {
      const label = added.value.trim();
      if (!text || label === "") return;
      if (!multiLabel) return send({ id: text.id, label });
      added.value = "";
      if (labels.includes(label) || chosen.has(label)) return;
      chosen.add(label);
      addLabel(label);
      showChosen();
    };
    added.addEventListener("keydown", ({ key }) => key === "Enter" && add());
    const done = [
      ...(text && multiLabel ? [give] : []),
      ...(text ? [keyed(SKIP, "Skip", () => send({ id: text.id, skip: true }))] : []),
      ...(labelled > 0 ? [keyed(UNDO, "Undo", () => send({ undo: true }))] : []),
      ...(labelled > 0 && canLearn
        ? [button(`Learn ${counted(labelled, multiLabel ? "text" : "label")}`, () => send({ learn: true }), "primary")]
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
              text.label === null ? "Its best score: " : multiLabel ? "Its labels: " : "Its label: ",
              ...(text.labels?.length ? text.labels : [text]).flatMap(({ label, score }, i) => [
                i === 0 ? "" : ", ",
                label === null ? undefined : foreign(label),
                ` ${percent(score, 1)}`,
              ]),
              ".",
            ),
            multiLabel ? "" : bar(text.score),
            buttons,
            ...(newLabels ? [element("div", { class: "buttons" }, added, button("Add", add))] : []),
          ]
        : [element("p", { class: "empty" }, "No text waits for a label.")]),
      element("div", { class: "buttons" }, ...done),
      element(
        "p",
        { class: "hint" },
        `${counted(waiting, "text")} waiting, ${multiLabel ? `${counted(labelled, "text")} labelled` : `${counted(labelled, "label")} given`}. ${canLearn ? "" : "This model cannot learn here; export the labels."}`,
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
