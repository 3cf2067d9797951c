// The page of a service: what it serves, what goes on, a text to try, and how to ask it. It polls the
// service's own paths, each of which a user may or may not have the right to.
import { shellQuoted } from "../../host/escape.ts";
import { fourDigits, type Panel, percents, renderInline } from "../../host/report/chart.ts";
import { createAskBox } from "../playground/ask.ts";
import { commandLine, element, find, foreign, picture, scrolling } from "../playground/dom.ts";
import type { Answer } from "../index.ts";
import { ask, asked, Refused } from "./asking.ts";
import { showCommands, showStatuses } from "./commands.ts";
import { type Figures, figuresOf, type Metrics, parseMetrics, type Reading, total } from "./figures.ts";
import type { Info } from "./info.ts";
import { showReview } from "./review.ts";

const POLL_MS = 2000;
const SHOWN_MS = 3 * 60_000;
const TYPING_MS = 250;
const MOST_LABELS = 12;

const readings: Reading[] = [];
let shown = "";
let mayRead = true;

function say(message: string): void {
  find("note").textContent = message;
  find("note").hidden = message === "";
}

async function poll(): Promise<void> {
  try {
    showState((await ask<{ status: string }>("/readyz")).status);
    const info = await ask<Info>("/info");
    showInfo(info);
    if (mayRead) await readFigures();
    if (info.may.commands.length > 0) await showStatuses();
    say("");
  } catch (error) {
    if (!(error instanceof Refused)) showState("not reached");
    say(`${(error as Error).message}. The page tries again.`);
  }
}

/** A command has been given, and its status should be seen soon. */
function given(): void {
  void showStatuses().catch(() => {});
}

function showState(status: string): void {
  const isReady = status === "ready";
  const words = isReady ? "ready" : `not ready: ${status}`;
  if (find("state").textContent === words) return;
  find("state").className = isReady ? "state good" : "state bad";
  find("state").textContent = words;
}

// --- what it serves -----------------------------------------------------------------------

function showInfo(info: Info): void {
  // Nothing is made anew under the user's hands unless it has changed.
  const json = JSON.stringify(info);
  if (json === shown) return;
  shown = json;
  document.title = `${info.node} – edgelabel`;
  find("node").textContent = `${info.node}, version ${info.version}`;
  const rows = info.models.map(({ name, version, labels, multiLabel, waiting }) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, foreign(name)),
      element("td", {}, foreign(version), waiting ? ` (${waiting.version} waits)` : undefined),
      element(
        "td",
        { class: "labels" },
        `${labels.length}${multiLabel ? ", several a text" : ""}: `,
        foreign(labels.slice(0, MOST_LABELS).join(", ")),
        labels.length > MOST_LABELS ? ", …" : "",
      ),
    ),
  );
  const heads = ["model", "version", "labels"].map((name) => element("th", { scope: "col" }, name));
  find("models").replaceChildren(
    info.models.length === 0
      ? element("p", { class: "hint" }, "There is no model yet.")
      : scrolling(
          "Models",
          element(
            "table",
            { class: "models" },
            element("thead", {}, element("tr", {}, ...heads)),
            element("tbody", {}, ...rows),
          ),
        ),
  );
  showTry(info);
  showCommands(info, given);
  showReview(info, given);
  showWays(info);
}

function showTry({ models }: Info): void {
  const box = createAskBox("text");
  const select = element(
    "select",
    { id: "model" },
    ...models.map(({ name }) => element("option", { value: name }, name)),
  );
  const use = (): void =>
    box.use(
      {
        delayMs: TYPING_MS,
        answer(text, why) {
          return ask<Answer>("/predict", { text, model: select.value, topK: 1024, explain: why ?? true });
        },
      },
      [],
    );
  select.addEventListener("change", use);
  find("try").replaceChildren(
    models.length > 1 ? element("div", { class: "field" }, element("label", { for: "model" }, "Model"), select) : "",
    models.length > 0 ? box.root : element("p", { class: "hint" }, "There is no model yet."),
  );
  if (models.length > 0) use();
}

function showWays({ node, topics, group }: Info): void {
  const plain = (text: string): string => (/^[\w./:-]+$/.test(text) ? text : shellQuoted(text));
  const commands: [string, string][] = [
    ["Over HTTP", `curl -s ${location.origin}/predict -H 'Content-Type: application/json' -d '{"text": "a text"}'`],
    ["Over MQTT", `edgelabel ask "a text" --node ${plain(node)}`],
    ["With Mosquitto's client", `mosquitto_pub -t ${plain(topics.classify)} -m "a text"`],
    ["See the answers", `mosquitto_sub -t ${plain(topics.label)}`],
    ["Topic of requests", topics.classify],
    ["Topic of answers", topics.label],
    ["Topic of the node's state", topics.status],
    ...(group ? ([[`Topic of requests to the group ${group.name}`, group.classify]] as [string, string][]) : []),
  ];
  find("ways").replaceChildren(
    ...commands.map(([name, command]) => element("div", {}, element("h3", {}, name), commandLine(command))),
  );
}

// --- what goes on --------------------------------------------------------------------------

async function readFigures(): Promise<void> {
  let metrics: Metrics;
  try {
    metrics = parseMetrics(await (await asked("/metrics")).text());
  } catch (error) {
    if (!(error instanceof Refused && error.status === 403)) throw error;
    mayRead = false;
    find("charts").replaceChildren(
      element("p", { class: "hint" }, "This user may not read the figures of the service."),
    );
    return;
  }
  const at = Date.now();
  readings.push({ at, metrics });
  while (readings[0]!.at < at - SHOWN_MS) readings.shift();
  const figures = readings.slice(1).map((now, i) => figuresOf(readings[i]!, now));
  const now: [string, string][] = [
    ["broker", total(metrics, "edgelabel_broker_connected") > 0 ? "connected" : "away"],
    ["texts so far", String(total(metrics, "edgelabel_texts_total"))],
    ["texts waiting", String(total(metrics, "edgelabel_texts_queued"))],
    ["memory", `${(total(metrics, "process_resident_memory_bytes") / 2 ** 20).toFixed(0)} MB`],
  ];
  find("charts").replaceChildren(
    element(
      "dl",
      { class: "figures" },
      ...now.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))),
    ),
    element(
      "div",
      { class: "pair" },
      ...panelsOf(figures, at).map(([label, svg]) => element("div", { title: label }, picture(svg))),
    ),
  );
}

function panelsOf(figures: readonly Figures[], now: number): [label: string, svg: string][] {
  const line = (
    name: string,
    kind: "first" | "second",
    read: (each: Figures) => number | undefined,
  ): Panel["lines"][number] => ({
    ...{ name, kind },
    points: figures.flatMap((each) => {
      const value = read(each);
      return value === undefined ? [] : [{ at: (each.at - now) / 60_000, value }];
    }),
  });
  const perSecond = (value: number): string => fourDigits(Number(value.toFixed(2)));
  const panels: Panel[] = [
    {
      title: "texts a second",
      lines: [line("texts", "first", (each) => each.textsPerSecond)],
      floor: 0,
      show: perSecond,
    },
    {
      title: "time to the answer, ms at most",
      lines: [line("95 %", "second", (each) => each.p95), line("half", "first", (each) => each.median)],
      floor: 0,
      show: fourDigits,
    },
    {
      title: "refused a second",
      lines: [
        line("errors", "second", (each) => each.errorsPerSecond),
        line("not answered", "first", (each) => each.ignoredPerSecond),
      ],
      floor: 0,
      show: perSecond,
    },
    {
      title: "texts of none of the labels",
      lines: [line("unknown", "first", (each) => each.unknown)],
      floor: 0,
      ceiling: 1,
      show: percents,
    },
  ];
  // From a minute on, as long as the page is open.
  const first = Math.min(-1, Math.max(-SHOWN_MS, (readings[0]?.at ?? now) - now) / 60_000);
  const axis = {
    name: "minutes",
    first,
    last: 0,
    ticks: [-3, -2, -1, 0].filter((tick) => tick >= first),
    show: String,
  };
  return panels.map((panel) => [panel.title, renderInline(`${panel.title}, the last minutes`, panel, axis)]);
}

function tick(): void {
  if (document.visibilityState === "visible") void poll().finally(() => setTimeout(tick, POLL_MS));
  else setTimeout(tick, POLL_MS);
}
tick();
