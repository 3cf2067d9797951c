// The side of the page that trains: texts in, a look at them, a run, and what came of it.
import { shellQuoted } from "../../host/escape.ts";
import { nameOfAccuracy } from "../../host/figures.ts";
import { renderInline, runPanels } from "../../host/report/chart.ts";
import { type EpochReport, type Model, open } from "../index.ts";
import { button, commandLine, element, foreign, picture, scrolling } from "./dom.ts";
import { inPage, modelNameOf, timeLeft } from "./figures.ts";
import type { Choices, Done, Job, News } from "./jobs.ts";
import { type Preview, previewOf } from "./preview.ts";
import { findingsOf, renderResults } from "./results.ts";

/** Called when the user wants to try the model that was trained. */
export type TryModel = (model: Model, bytes: number, examples: readonly string[]) => void;

export interface Training {
  root: HTMLElement;
  read(file: File): Promise<void>;
}

interface Texts {
  name: string;
  bytes: Uint8Array;
  preview: Preview;
  /** False for texts that were typed or pasted. */
  isFile: boolean;
}

/** Texts that have been read, and may be trained on. */
interface Offered {
  /** Those that were chosen by hand. */
  columns: { textColumn?: string | undefined; labelColumn?: string | undefined };
  skipped: number;
  read: News & { kind: "read" };
}

const PASTED = "pasted texts";
/** Longer texts are not put into the box, which would become slow. */
const MOST_PASTED = 200_000;
const TYPING_MS = 400;
const PLACEHOLDER = "label,text\nlights,switch off the hallway lamp\nclimate,set the temperature to 21 degrees\n…";

export function createTraining(onTry: TryModel): Training {
  let worker: Worker | undefined;
  let texts: Texts | undefined;
  let news: (news: News) => void = () => {};

  const pasted = element("textarea", {
    id: "texts",
    rows: 7,
    spellcheck: "false",
    placeholder: PLACEHOLDER,
    wrap: "off",
  });
  const file = element("input", {
    ...{ type: "file", hidden: true, "aria-label": "File of labelled texts" },
    accept: ".csv,.tsv,.txt,.jsonl,.ndjson,.json,.ft",
  });
  const about = element("div", { id: "about" });
  const run = element("div", { id: "run" });

  /** Hands a job to the worker, and what it says to `listener` until the next job. */
  function ask(job: Job, listener: (news: News) => void): void {
    news = listener;
    worker ??= startWorker((told) => news(told));
    worker.postMessage(job);
  }

  /** Ends what the worker does, at once. */
  function cancel(): void {
    worker?.terminate();
    worker = undefined;
  }

  // --- texts ---------------------------------------------------------------------------

  function take(name: string, bytes: Uint8Array, isFile: boolean): void {
    cancel();
    run.replaceChildren();
    if (bytes.length === 0) {
      texts = undefined;
      about.replaceChildren();
      return;
    }
    const beginning = new TextDecoder().decode(bytes.subarray(0, 4 * MOST_PASTED));
    texts = { name, bytes, isFile, preview: previewOf(beginning, name) };
    showTexts(texts.preview.text, texts.preview.label);
  }

  function showTexts(text: string | undefined, label: string | undefined): void {
    const { name, bytes, preview, isFile } = texts!;
    const found = element("div", { "aria-live": "polite" });
    const { columns } = preview;
    about.replaceChildren(
      element("h2", {}, isFile ? foreign(name) : "Your texts"),
      ...(columns.length > 1
        ? [
            element(
              "div",
              { class: "choices" },
              chooser("Text column", "text-column", columns, text, (chosen) => showTexts(chosen, label)),
              chooser("Label column", "label-column", columns, label, (chosen) => showTexts(text, chosen)),
            ),
          ]
        : []),
      rowsOf(preview, text, label),
      found,
    );
    run.replaceChildren();
    if (columns.length > 1 && (text === undefined || label === undefined || text === label)) {
      found.replaceChildren(
        element("p", { class: "hint" }, "Choose which column holds the texts, and which one their labels."),
      );
      return;
    }
    found.replaceChildren(element("p", { class: "hint" }, "Reading…"));
    const chosen = columns.length > 1 ? { textColumn: text, labelColumn: label } : {};
    ask({ kind: "read", name, bytes, ...chosen }, (told) => {
      if (told.kind === "failed") found.replaceChildren(alertOf(told.message));
      if (told.kind !== "read") return;
      found.replaceChildren(...findingsOf(told.report, told.skipped));
      if (Object.keys(told.report.labels).length < 2) {
        found.append(alertOf("There is only one label; a classifier tells at least two apart."));
        return;
      }
      const usual = chosen.textColumn === preview.text && chosen.labelColumn === preview.label;
      offer({ columns: usual ? {} : chosen, skipped: told.skipped, read: told });
    });
  }

  // --- a run ---------------------------------------------------------------------------

  function offer(offered: Offered): void {
    const { name, isFile } = texts!;
    const { several } = offered.read.report;
    const field = (id: string, label: string, input: HTMLElement, hint: string): HTMLElement =>
      element(
        "div",
        { class: "field" },
        element("label", { for: id }, label),
        input,
        element("span", { class: "hint" }, hint),
      );
    const named = element("input", { id: "name", value: isFile ? modelNameOf(name) : "texts", maxlength: 60 });
    const aside = options("aside", [0.1, "10 %"], [0.2, "20 %"], [0, "none"]);
    const unknown = options("unknown", [0, "only its labels"], [0.05, "also “none of them”"]);
    const epochs = element("input", { id: "epochs", type: "number", min: 1, max: 1000, placeholder: "automatic" });
    const seed = element("input", { id: "seed", type: "number", min: 0, max: 4294967295, value: 1 });
    const settings = element(
      "details",
      { class: "settings" },
      element("summary", {}, "Settings"),
      element(
        "div",
        { class: "fields" },
        field("name", "Name", named, "of the model and its files"),
        field("aside", "Kept aside", aside, "texts that the model is measured on, not trained on"),
        // Where texts have several labels, an answer may be none of them in any case.
        several ? "" : field("unknown", "May answer", unknown, "the second costs up to 5 % of the right answers"),
        field("epochs", "Epochs", epochs, "passes over the texts"),
        field("seed", "Seed", seed, "the same seed gives the same model"),
      ),
    );
    const start = button(
      "Train",
      () => {
        if (![named, epochs, seed].every((input) => input.reportValidity())) return;
        train(offered, {
          name: named.value.trim() || "model",
          seed: Number(seed.value),
          epochs: epochs.value === "" ? undefined : Number(epochs.value),
          aside: Number(aside.value),
          unknown: Number(aside.value) > 0 ? Number(unknown.value) : 0,
        });
      },
      "primary",
    );
    run.replaceChildren(settings, start);
  }

  function train(offered: Offered, choices: Choices): void {
    const started = performance.now();
    const reports: EpochReport[] = [];
    const bar = element("progress", { max: 1, value: 0, "aria-label": "Training" });
    const state = element("p", { class: "state", role: "status" }, "Starting…");
    const left = element("p", { class: "left" });
    const charts = element("div", { class: "pair charts" });
    const notes = element("ul", { class: "notes" });
    const stop = button("Stop after this epoch", () => {
      ask({ kind: "stop" }, listen);
      stop.disabled = true;
      stop.textContent = "Stopping…";
    });
    const cancelled = button("Cancel", () => {
      cancel();
      // The worker that had read the texts is gone.
      showTexts(...chosenColumns(offered));
    });
    const listen = (told: News): void => {
      if (told.kind === "progress") {
        bar.value = told.done / told.total;
        state.textContent = `Epoch ${Math.min(told.total, Math.floor(told.done) + 1)} of ${told.total}`;
        left.textContent = timeLeft(performance.now() - started, told.done, told.total);
      } else if (told.kind === "epoch") {
        reports.push(told.report);
        charts.replaceChildren(...chartsOf(reports, offered));
      } else if (told.kind === "note") notes.append(element("li", {}, inPage(told.note)));
      else if (told.kind === "failed") run.replaceChildren(alertOf(told.message));
      else if (told.kind === "done") void show(offered, choices, told, reports, notes);
    };
    run.replaceChildren(
      element(
        "div",
        { class: "running" },
        element("div", { class: "line" }, state, left),
        bar,
        element("div", { class: "buttons" }, stop, cancelled),
      ),
      notes,
      charts,
    );
    run.scrollIntoView({ block: "start" });
    ask({ kind: "train", choices }, listen);
  }

  function chosenColumns({ columns }: Offered): [string | undefined, string | undefined] {
    const { text, label } = texts!.preview;
    return [columns.textColumn ?? text, columns.labelColumn ?? label];
  }

  async function show(
    offered: Offered,
    choices: Choices,
    done: Done,
    reports: readonly EpochReport[],
    notes: HTMLElement,
  ): Promise<void> {
    const model = await open(done.wasm);
    const examples = examplesOf(done);
    run.replaceChildren(
      ...renderResults({
        model,
        choices,
        done,
        report: offered.read.report,
        onTry: () => onTry(model, done.wasm.length, examples),
        examples,
      }),
      element("h2", {}, "How it learnt"),
      element("div", { class: "pair charts" }, ...chartsOf(reports, offered)),
      notes,
      ...(done.epochsLeft > 0
        ? []
        : [
            element("h2", {}, "The same on the command line"),
            element("p", {}, "These texts, settings and seed give the same file there, byte for byte."),
            commandLine(commandOf(texts!, choices, offered)),
          ]),
      button("Train again", () => {
        offer(offered);
        run.scrollIntoView({ block: "start" });
      }),
    );
    run.scrollIntoView({ block: "start" });
  }

  // --- the box of texts -------------------------------------------------------------------

  let typing: ReturnType<typeof setTimeout> | undefined;
  pasted.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => take(PASTED, new TextEncoder().encode(pasted.value), false), TYPING_MS);
  });
  pasted.addEventListener("paste", (event) => {
    const content = event.clipboardData?.getData("text/plain") ?? "";
    if (content.length <= MOST_PASTED) return;
    event.preventDefault();
    pasted.value = "";
    take(PASTED, new TextEncoder().encode(content), false);
  });
  const read = async (chosen: File): Promise<void> => {
    pasted.value = "";
    take(chosen.name, new Uint8Array(await chosen.arrayBuffer()), true);
  };
  file.addEventListener("change", () => {
    const [chosen] = file.files!;
    if (chosen) void read(chosen).then(() => (file.value = ""));
  });

  const root = element(
    "div",
    {},
    element("label", { for: "texts" }, "Labelled texts"),
    element(
      "p",
      { class: "hint" },
      "Paste some, or drop a file: CSV, TSV, JSON lines, fastText. Some 20 texts of each label are a beginning.",
    ),
    pasted,
    element(
      "div",
      { class: "buttons" },
      button("Choose a file…", () => file.click()),
      button("Use the example messages", () => {
        void import("../../host/demo/messages.tsv").then(({ default: messages }) => {
          pasted.value = "";
          take("messages.tsv", new TextEncoder().encode(messages), true);
        });
      }),
      file,
    ),
    about,
    run,
  );
  return { root, read };
}

/** From a script of its own that inherits the page's policy, which a file of a server without policies would not. */
function startWorker(listener: (news: News) => void): Worker {
  const script = new URL("playground-worker.js", import.meta.url).href;
  const url = URL.createObjectURL(new Blob([`import ${JSON.stringify(script)};`], { type: "text/javascript" }));
  const worker = new Worker(url, { type: "module" });
  worker.addEventListener("message", ({ data }: MessageEvent<News>) => listener(data));
  worker.addEventListener("error", ({ message }) =>
    listener({ kind: "failed", message: message || "the trainer cannot be loaded; is the server still there?" }),
  );
  return worker;
}

function alertOf(message: string): HTMLElement {
  return element("p", { class: "alert", role: "alert" }, inPage(message));
}

function chooser(
  label: string,
  id: string,
  columns: readonly string[],
  chosen: string | undefined,
  onChoice: (column: string) => void,
): HTMLElement {
  const select = element(
    "select",
    { id },
    ...(chosen === undefined ? [element("option", { value: "" }, "choose…")] : []),
  );
  for (const column of columns)
    select.append(element("option", { value: column, selected: column === chosen }, column));
  select.addEventListener("change", () => {
    onChoice(select.value);
    // The box is made anew, and the keyboard should stay where it was.
    document.getElementById(id)?.focus();
  });
  return element("div", { class: "field" }, element("label", { for: id }, label), select);
}

function options(id: string, ...choices: readonly [value: number, name: string][]): HTMLSelectElement {
  return element("select", { id }, ...choices.map(([value, name]) => element("option", { value }, name)));
}

function rowsOf({ columns, rows }: Preview, text: string | undefined, label: string | undefined): HTMLElement {
  const names = columns.length > 0 ? columns : ["label", "text"];
  const [textName, labelName] = columns.length > 0 ? [text, label] : ["text", "label"];
  const kind = (i: number): string =>
    names[i] === textName ? "is-text" : names[i] === labelName ? "is-label" : "is-other";
  const head = names.map((name, i) => element("th", { scope: "col", class: kind(i) }, foreign(name)));
  const body = rows.map((row) =>
    element("tr", {}, ...names.map((_, i) => element("td", { class: kind(i), dir: "auto" }, row[i] ?? ""))),
  );
  return scrolling(
    "The first texts",
    element(
      "table",
      { class: "preview" },
      element("thead", {}, element("tr", {}, ...head)),
      element("tbody", {}, ...body),
    ),
  );
}

function chartsOf(reports: readonly EpochReport[], { read }: Pick<Offered, "read">): SVGElement[] {
  const accuracy = nameOfAccuracy(read.report.several !== undefined);
  const { panels, axis } = runPanels(reports, reports[0]?.epochs, accuracy);
  return panels.map((panel) => picture(renderInline(`${panel.title} by epoch`, panel, axis)));
}

/** Texts that the model has not seen, of different labels where there are some. */
function examplesOf({ answers }: Done): string[] {
  const firsts = new Map<string, string>();
  for (const { text, truth } of answers) {
    const labels = truth.join();
    if (text.length < 80 && !firsts.has(labels)) firsts.set(labels, text);
  }
  return [...firsts.values()].slice(0, 6);
}

function commandOf(
  { name, isFile }: Texts,
  { name: model, seed, epochs, aside, unknown }: Choices,
  { columns, skipped }: Pick<Offered, "columns" | "skipped">,
): string {
  const quoted = (text: string): string => (/^[\w./%-]+$/.test(text) ? text : shellQuoted(text));
  const parts = [
    `edgelabel train ${quoted(isFile ? name : "texts.csv")}`,
    ...(columns.textColumn === undefined ? [] : [`--text-column ${quoted(columns.textColumn)}`]),
    ...(columns.labelColumn === undefined ? [] : [`--label-column ${quoted(columns.labelColumn)}`]),
    ...(skipped > 0 ? ["--skip-empty"] : []),
    ...(aside > 0 ? [`--valid ${100 * aside}%`] : []),
    ...(unknown > 0 ? [`--unknown ${unknown}`] : []),
    ...(epochs === undefined ? [] : [`--epochs ${epochs}`]),
    ...(seed === 1 ? [] : [`--seed ${seed}`]),
    `-o ${quoted(`${model}.wasm`)}`,
  ];
  return parts.join(" ");
}
