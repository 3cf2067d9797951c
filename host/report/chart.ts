// Figures as a self-contained SVG with two panels side by side: a run's loss and accuracy over
// its epochs, or accuracy and threshold over the coverage. Without figures the panels are
// empty; nothing is refused.
import { escapeMarkup } from "../escape.ts";
import type { EpochReport } from "../training/recipe.ts";
import type { CurvePoint } from "./rejection-curve.ts";

interface Line {
  name: string;
  colour: string;
  points: readonly { at: number; value: number }[];
}

interface Panel {
  title: string;
  left: number;
  lines: readonly Line[];
  /** Value at the bottom; undefined: the largest tick below all lines. */
  floor?: number;
  ceiling?: number;
  show(value: number): string;
}

/** The horizontal axis, the same for both panels. */
interface Axis {
  name: string;
  first: number;
  last: number;
  ticks: readonly number[];
  show(at: number): string;
}

const WIDTH = 860;
const HEIGHT = 360;
const PANEL = { width: 340, height: 220, top: 76 };
const TRAINING = "#2563eb";
const VALIDATION = "#ea580c";
const STYLE =
  "text{font:12px system-ui,sans-serif;fill:#334155}.title{font-size:16px;font-weight:600;fill:#0f172a}.panel{font-weight:600}" +
  ".grid{stroke:#e2e8f0}.axis{stroke:#94a3b8}.line{fill:none;stroke-width:2;stroke-linejoin:round}";

/** Loss and accuracy of a run; `reports` are in order of their epochs. */
export function renderChart(reports: readonly EpochReport[], title: string): string {
  const line = (name: string, colour: string, read: (report: EpochReport) => number | undefined): Line => ({
    name,
    colour,
    points: reports.flatMap((report) => {
      const value = read(report);
      return value === undefined || !Number.isFinite(value) ? [] : [{ at: report.epoch, value }];
    }),
  });
  const both = (figure: "loss" | "accuracy"): Line[] =>
    [
      line("training", TRAINING, ({ train }) => train[figure]),
      line("validation", VALIDATION, ({ validation }) => validation?.[figure]),
    ].filter(({ points }) => points.length > 0);
  const panels: Panel[] = [
    { title: "loss", left: 56, lines: both("loss"), floor: 0, show: (value) => String(Number(value.toPrecision(4))) },
    { title: "accuracy", left: 486, lines: both("accuracy"), ceiling: 1, show: percentTicks },
  ];
  const epochs = reports.map(({ epoch }) => epoch);
  // In order; a spread of them into a call would not fit on the stack.
  const first = epochs[0] ?? 0;
  const last = epochs.at(-1) ?? 0;
  return renderPanels(title, panels, {
    name: "epoch",
    first,
    last,
    ticks: epochs.length > 0 ? epochTicks(first, last) : [],
    show: String,
  });
}

/** The rejection curve: accuracy of the answers at or above a threshold, and the threshold itself, over the coverage that remains. */
export function renderCurve(curve: readonly CurvePoint[], title: string): string {
  const line = (name: string, read: (point: CurvePoint) => number): Line => ({
    name,
    colour: TRAINING,
    points: curve.map((point) => ({ at: point.coverage, value: read(point) })),
  });
  const panels: Panel[] = [
    {
      title: "accuracy of the answers given",
      left: 56,
      lines: [line("accuracy", ({ accuracy }) => accuracy)],
      ceiling: 1,
      show: percentTicks,
    },
    {
      title: "threshold",
      left: 486,
      lines: [line("threshold", ({ threshold }) => threshold)],
      ceiling: 1,
      show: (value) => String(Number(value.toPrecision(4))),
    },
  ];
  return renderPanels(title, panels, {
    name: "coverage",
    first: 0,
    last: 1,
    ticks: [0, 0.2, 0.4, 0.6, 0.8, 1],
    show: percentTicks,
  });
}

export function percentTicks(value: number): string {
  return `${Number((100 * value).toPrecision(5))} %`;
}

function renderPanels(title: string, panels: readonly Panel[], axis: Axis): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" role="img" aria-labelledby="title">`,
    `<title id="title">${escapeMarkup(title)}</title>`,
    `<style>${STYLE}</style>`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    `<text class="title" x="16" y="28">${escapeMarkup(title)}</text>`,
    ...panels.flatMap((panel) => renderPanel(panel, axis)),
    "</svg>",
    "",
  ].join("\n");
}

/** In the coordinates of a picture that is 412 wide from x 0, if `left` is 56, and 300 high from y 52. */
export function renderPanel({ title, left, lines, floor, ceiling, show }: Panel, axis: Axis): string[] {
  const { first, last } = axis;
  const { width, height, top } = PANEL;
  const bottom = top + height;
  const values = lines.flatMap(({ points }) => points.map(({ value }) => value));
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
  const x = (at: number): number => round(left + (last > first ? (at - first) / (last - first) : 0.5) * width);
  const y = (value: number): number => round(bottom - ((value - low) / (high - low)) * height);
  const out = [`<text class="panel" x="${left}" y="${top - 14}">${title}</text>`];
  lines.forEach(({ name, colour }, i) => {
    const at = left + width - (lines.length - i) * 92;
    out.push(
      `<line class="key ${name}" x1="${at}" y1="${top - 18}" x2="${at + 18}" y2="${top - 18}" stroke="${colour}" stroke-width="3"/><text x="${at + 24}" y="${top - 14}">${name}</text>`,
    );
  });
  for (const tick of ticks) {
    out.push(
      `<line class="grid" x1="${left}" y1="${y(tick)}" x2="${left + width}" y2="${y(tick)}"/>` +
        `<text x="${left - 8}" y="${y(tick) + 4}" text-anchor="end">${show(tick)}</text>`,
    );
  }
  for (const tick of lines.length > 0 ? axis.ticks : []) {
    out.push(
      `<line class="axis" x1="${x(tick)}" y1="${bottom}" x2="${x(tick)}" y2="${bottom + 5}"/><text x="${x(tick)}" y="${bottom + 20}" text-anchor="middle">${axis.show(tick)}</text>`,
    );
  }
  out.push(
    `<path class="axis" fill="none" d="M${left} ${top}V${bottom}H${left + width}"/>`,
    `<text x="${left + width / 2}" y="${bottom + 42}" text-anchor="middle">${axis.name}</text>`,
  );
  for (const { name, colour, points } of lines) {
    out.push(
      `<polyline class="line ${name}" stroke="${colour}" points="${points.map(({ at, value }) => `${x(at)},${y(value)}`).join(" ")}"/>`,
    );
    // Few points are also drawn as circles: a single one would be invisible as a line.
    if (points.length > 40) continue;
    for (const { at, value } of points) {
      out.push(
        `<circle class="${name}" cx="${x(at)}" cy="${y(value)}" r="3" fill="${colour}"><title>${name}, ${axis.name} ${axis.show(at)}: ${show(value)}</title></circle>`,
      );
    }
  }
  return out;
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
