// Figures as SVG: panels with lines over an axis, for a picture of its own or inside a page. Here
// are also the two panels of a run, loss and accuracy over its epochs. Without figures the panels
// are empty; nothing is refused.
import { escapeMarkup } from "../escape.ts";
import type { EpochReport } from "../training/recipe.ts";
import { pictureStyle } from "./theme.ts";

interface Line {
  name: string;
  /** CHART_STYLE has a colour for each kind. */
  kind: "first" | "second" | "ideal";
  points: readonly { at: number; value: number }[];
  /** The points are not joined. */
  isLoose?: boolean | undefined;
  /** Shown of the best point, which is marked. */
  best?: { at: number; value: number; is: string } | undefined;
}

export interface Panel {
  title: string;
  width?: number;
  lines: readonly Line[];
  /** Value at the bottom; undefined: the largest tick below all lines. */
  floor?: number;
  ceiling?: number;
  show(value: number): string;
  /** Of the axis at the side; default: as show() has it. */
  showTick?(value: number): string;
  /** The part of the axis from `from` on is shaded, and explained by a few words a line. */
  phase?: { from: number; words: readonly string[]; side: "top" | "bottom" } | undefined;
  /** A line across, with words at its top, and points on it. */
  mark?: { at: number; words: string; values: readonly number[] } | undefined;
}

/** The horizontal axis, the same for all panels of a picture. */
export interface Axis {
  name: string;
  first: number;
  last: number;
  ticks: readonly number[];
  show(at: number): string;
}

/** Of a panel, whose corner is at 0, 0: room for titles, ticks, and the last values beside the lines. */
const LEFT = 52;
const RIGHT = 60;
const TOP = 52;
const PLOT = { width: 304, height: 208 };
/** A panel's whole size, with a plot of the usual width. */
const PANEL = { width: LEFT + PLOT.width + RIGHT, height: TOP + PLOT.height + 48 };
/** Between the last values of two lines, so that they stay readable. */
const LINE_HEIGHT = 14;
/** More points than this are drawn without a circle for each. */
const FEW_POINTS = 40;

export const CHART_STYLE =
  "svg text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif;fill:var(--soft)}svg .title{font-size:16px;font-weight:600;fill:var(--ink)}svg .panel{font-size:13px;font-weight:600;fill:var(--ink)}" +
  "svg .grid{stroke:var(--rule)}svg .axis{stroke:var(--other);fill:none}svg .line{fill:none;stroke-width:2.25;stroke-linejoin:round;stroke-linecap:round}" +
  "svg .line.first,svg .key.first,svg .best.first{stroke:var(--accent)}svg .line.second,svg .key.second,svg .best.second{stroke:var(--second)}svg .ideal{stroke:var(--other);stroke-dasharray:5 4}" +
  "svg circle.first,svg .last.first{fill:var(--accent)}svg circle.second,svg .last.second{fill:var(--second)}svg .last{font-weight:600}" +
  "svg circle.best{fill:var(--page);stroke-width:2}svg .phase{fill:var(--other);fill-opacity:.12}svg .mark{stroke:var(--ink);stroke-dasharray:3 3}svg circle.mark{fill:var(--page);stroke-dasharray:none;stroke-width:2}";

/** Loss and accuracy of a run, as a picture; `reports` are in order of their epochs, and `accuracy` is what their accuracy is called. */
export function renderChart(reports: readonly EpochReport[], title: string, accuracy?: string): string {
  const { panels, axis } = runPanels(reports, undefined, accuracy);
  return renderPicture(title, panels, axis);
}

/** The panels of a run: which epochs there are, where perturbed texts begin, and which epoch was the best on validation texts. */
export function runPanels(
  reports: readonly EpochReport[],
  epochs?: number,
  accuracy = "accuracy",
): { panels: Panel[]; axis: Axis } {
  const line = (
    name: string,
    kind: Line["kind"],
    read: (report: EpochReport) => number | undefined,
    isBetter?: (a: number, b: number) => boolean,
  ): Line => {
    const points = reports.flatMap((report) => {
      const value = read(report);
      return value === undefined || !Number.isFinite(value) ? [] : [{ at: report.epoch, value }];
    });
    const [start] = points;
    if (start === undefined || points.length < 2 || isBetter === undefined) return { name, kind, points };
    const best = points.reduce((a, b) => (isBetter(b.value, a.value) ? b : a), start);
    return { name, kind, points, best: { ...best, is: `best: epoch ${best.at}` } };
  };
  const both = (figure: "loss" | "accuracy", isBetter: (a: number, b: number) => boolean): Line[] =>
    [
      line("training", "second", ({ train }) => train[figure]),
      line("validation", "first", ({ validation }) => validation?.[figure], isBetter),
    ].filter(({ points }) => points.length > 0);
  // In order; a spread of them into a call would not fit on the stack.
  const first = reports[0]?.epoch ?? 0;
  const last = Math.max(epochs ?? 0, reports.at(-1)?.epoch ?? 0);
  const hard = reports.find(({ perturbed }) => perturbed)?.epoch;
  const phase = (side: "top" | "bottom"): Panel["phase"] =>
    hard === undefined
      ? undefined
      : { from: Math.max(first, hard - 1), words: [`from epoch ${hard} on, texts`, "are also made harder"], side };
  const panels: Panel[] = [
    { title: "loss", lines: both("loss", (a, b) => a < b), floor: 0, show: fourDigits, phase: phase("top") },
    {
      title: accuracy,
      lines: both("accuracy", (a, b) => a > b),
      ceiling: 1,
      show: percents,
      showTick: percentTicks,
      phase: phase("bottom"),
    },
  ];
  return {
    panels,
    axis: { name: "epoch", first, last, ticks: reports.length > 0 ? epochTicks(first, last) : [], show: String },
  };
}

export function fourDigits(value: number): string {
  return String(Number(value.toPrecision(4)));
}

export function percents(value: number): string {
  return `${Number((100 * value).toFixed(2))} %`;
}

/** Ticks of accuracies near 100 % need more digits. */
function percentTicks(value: number): string {
  return `${Number((100 * value).toPrecision(5))} %`;
}

/** Panels side by side as a picture of its own, with a caption if there is one. */
export function renderPicture(title: string, panels: readonly Panel[], axis: Axis, caption = ""): string {
  const gap = 16;
  const top = 44;
  const widths = panels.map(widthOf);
  const width = widths.reduce((sum, each) => sum + each + gap, gap);
  const height = top + PANEL.height + (caption === "" ? 12 : 36);
  const lefts = widths.map((_, i) => widths.slice(0, i).reduce((sum, each) => sum + each + gap, gap));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-labelledby="title">`,
    `<title id="title">${escapeMarkup(title)}</title>`,
    `<style>${pictureStyle(`.paper{fill:var(--page)}${CHART_STYLE}`)}</style>`,
    `<rect class="paper" width="100%" height="100%"/>`,
    `<text class="title" x="16" y="28">${escapeMarkup(title)}</text>`,
    ...panels.map(
      (panel, i) => `<g transform="translate(${lefts[i]} ${top})">${renderPanel(panel, axis).join("\n")}</g>`,
    ),
    ...(caption === "" ? [] : [`<text x="${gap + LEFT}" y="${height - 14}">${escapeMarkup(caption)}</text>`]),
    "</svg>",
    "",
  ].join("\n");
}

/** A panel as a picture in a page that has CHART_STYLE; `label` says to those who cannot see it what it shows. */
export function renderInline(label: string, panel: Panel, axis: Axis): string {
  return `<svg viewBox="0 0 ${widthOf(panel)} ${PANEL.height}" role="img" aria-label="${escapeMarkup(label)}">${renderPanel(panel, axis).join("")}</svg>`;
}

function widthOf({ width = PLOT.width }: Panel): number {
  return LEFT + width + RIGHT;
}

function renderPanel(panel: Panel, axis: Axis): string[] {
  const { title, lines, floor, ceiling, show, showTick = show, phase, mark, width = PLOT.width } = panel;
  const { first, last } = axis;
  const bottom = TOP + PLOT.height;
  const right = LEFT + width;
  const values = [...lines.flatMap(({ points }) => points.map(({ value }) => value)), ...(mark?.values ?? [])];
  const ticks =
    values.length > 0
      ? niceTicks(
          floor ?? values.reduce((a, b) => Math.min(a, b)),
          values.reduce((a, b) => Math.max(a, b)),
          ceiling,
        )
      : [0, 1];
  const low = ticks[0]!;
  const high = ticks.at(-1)!;
  const x = (at: number): number => round(LEFT + (last > first ? (at - first) / (last - first) : 0.5) * width);
  const y = (value: number): number => round(bottom - ((value - low) / (high - low)) * PLOT.height);
  const out = [`<text class="panel" x="${LEFT}" y="14">${escapeMarkup(title)}</text>`];
  let keyAt = LEFT;
  for (const { name, kind, best } of lines) {
    out.push(
      `<line class="key ${kind}" x1="${keyAt}" y1="32" x2="${keyAt + 16}" y2="32" stroke-width="3"/><text x="${keyAt + 22}" y="36">${escapeMarkup(name)}</text>`,
    );
    keyAt += 22 + textWidth(name) + 16;
    if (best === undefined) continue;
    out.push(
      `<circle class="best ${kind}" cx="${keyAt + 5}" cy="32" r="5"/><text x="${keyAt + 16}" y="36">${best.is}</text>`,
    );
    keyAt += 16 + textWidth(best.is) + 16;
  }
  for (const tick of ticks)
    out.push(
      `<line class="grid" x1="${LEFT}" y1="${y(tick)}" x2="${right}" y2="${y(tick)}"/>` +
        `<text x="${LEFT - 8}" y="${y(tick) + 4}" text-anchor="end">${showTick(tick)}</text>`,
    );
  for (const tick of lines.length > 0 ? axis.ticks : [])
    out.push(
      `<line class="axis" x1="${x(tick)}" y1="${bottom}" x2="${x(tick)}" y2="${bottom + 5}"/><text x="${x(tick)}" y="${bottom + 20}" text-anchor="middle">${axis.show(tick)}</text>`,
    );
  if (phase) {
    out.push(
      `<rect class="phase" x="${x(phase.from)}" y="${TOP}" width="${round(right - x(phase.from))}" height="${PLOT.height}"/>`,
    );
    const start = phase.side === "top" ? TOP + 18 : bottom - 10 - (phase.words.length - 1) * 15;
    phase.words.forEach((words, i) =>
      out.push(`<text x="${right - 8}" y="${start + 15 * i}" text-anchor="end">${escapeMarkup(words)}</text>`),
    );
  }
  out.push(
    `<path class="axis" d="M${LEFT} ${TOP}V${bottom}H${right}"/>`,
    `<text x="${LEFT + width / 2}" y="${bottom + 40}" text-anchor="middle">${escapeMarkup(axis.name)}</text>`,
  );
  if (mark) {
    const isLeft = x(mark.at) < LEFT + width / 2;
    out.push(
      `<line class="mark" x1="${x(mark.at)}" y1="${TOP}" x2="${x(mark.at)}" y2="${bottom}"/>`,
      `<text x="${x(mark.at) + (isLeft ? 6 : -6)}" y="${bottom - 10}" text-anchor="${isLeft ? "start" : "end"}">${escapeMarkup(mark.words)}</text>`,
    );
  }
  for (const { name, kind, points, best, isLoose } of lines) {
    if (!isLoose)
      out.push(
        `<polyline class="line ${kind}" points="${points.map(({ at, value }) => `${x(at)},${y(value)}`).join(" ")}"/>`,
      );
    // A single point would be invisible as a line.
    for (const { at, value } of kind === "ideal" || points.length > FEW_POINTS ? [] : points)
      out.push(
        `<circle class="${kind}" cx="${x(at)}" cy="${y(value)}" r="2.5"><title>${escapeMarkup(`${name}, ${axis.name} ${axis.show(at)}: ${show(value)}`)}</title></circle>`,
      );
    if (best)
      out.push(
        `<circle class="best ${kind}" cx="${x(best.at)}" cy="${y(best.value)}" r="6"><title>${escapeMarkup(`${best.is}: ${show(best.value)}`)}</title></circle>`,
      );
  }
  for (const value of mark?.values ?? []) out.push(`<circle class="mark" cx="${x(mark!.at)}" cy="${y(value)}" r="4"/>`);
  return [...out, ...lastValues(lines, x, y, show)];
}

/** The last value of each line beside its end, none over another. */
function lastValues(
  lines: readonly Line[],
  x: (at: number) => number,
  y: (value: number) => number,
  show: (value: number) => string,
): string[] {
  const ends = lines
    .filter(({ kind, points, isLoose }) => kind !== "ideal" && !isLoose && points.length > 0)
    .map(({ kind, points }) => ({ kind, end: points.at(-1)! }))
    .sort((a, b) => b.end.value - a.end.value);
  let lowest = -Infinity;
  return ends.map(({ kind, end }) => {
    const at = Math.max(y(end.value) + 4, lowest + LINE_HEIGHT);
    lowest = at;
    return `<text class="last ${kind}" x="${x(end.at) + 8}" y="${round(at)}">${show(end.value)}</text>`;
  });
}

/** About; fonts differ. */
function textWidth(text: string): number {
  return round(6.4 * text.length);
}
/** Round numbers that enclose low ... high, in steps of 1, 2 or 5 times a power of ten; none above `ceiling`. */
export function niceTicks(low: number, high: number, ceiling = Infinity): number[] {
  // A span that is lost when ticks are rounded is replaced by a larger one.
  const span = high - low > 1e-9 * Math.max(high, 1e-9) ? high - low : high > 1e-9 ? high : 1;
  const power = 10 ** Math.floor(Math.log10(span / 5));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => span / candidate <= 6)!;
  const ticks: number[] = [];
  // Ticks are multiples of the step, rounded to 12 digits: repeated addition would make 0.30000000000000004 of 0.3.
  let index = Math.floor(low / step + 1e-9);
  for (; index * step < high - step * 1e-9; index++) ticks.push(Number((index * step).toPrecision(12)));
  ticks.push(Number((index * step).toPrecision(12)));
  if (ticks.length < 2) ticks.push(Number(((index + 1) * step).toPrecision(12)));
  while (ticks.length > 2 && ticks.at(-1)! > ceiling) ticks.pop();
  if (ticks.at(-1)! > ceiling) return [Number((ceiling - step).toPrecision(12)), ceiling];
  return ticks;
}

function epochTicks(first: number, last: number): number[] {
  const step =
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000].find(
      (candidate) => (last - first) / candidate <= 10,
    ) ?? 20_000;
  const ticks: number[] = [];
  for (let tick = Math.ceil(first / step) * step; tick <= last; tick += step) ticks.push(tick);
  return ticks;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
