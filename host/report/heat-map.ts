// Explanations -> heat maps: a self-contained page of HTML, text in a terminal's colours, or
// plain lines. Orange speaks for the label and blue against it; the larger the share, the more
// opaque. Texts are not trusted: HTML is
// escaped, and control characters reach neither page nor terminal.
import { escapeMarkup, printable } from "../escape.ts";
import type { Explanation, TokenShare } from "../model/explanation.ts";
import { THEME } from "./theme.ts";

export interface ExplainedText {
  text: Uint8Array;
  explanation: Explanation;
}

/** Shares of less than this part of the largest one are not printed, nor those of very long words. */
const PRINTED_STRENGTH = 0.1;
const PRINTED_CHARACTERS = 24;
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** A token of the text, or what is between two of them. */
export interface Segment {
  text: string;
  token?: {
    share: number;
    /** Of the share, relative to the largest one of the text: 0 to 1. */
    strength: number;
    /** The share with two decimals where it counts, and the token has room for it. */
    printed: string | undefined;
  };
}

/** The whole text in order: the tokens, and the text between them. */
export function segmentsOf({ text, explanation }: ExplainedText): Segment[] {
  const segments: Segment[] = [];
  const strengthOf = strength(explanation);
  let at = 0;
  const take = (end: number, token?: TokenShare): void => {
    if (end > at) {
      const segment: Segment = { text: decoder.decode(text.subarray(at, end)) };
      if (token) {
        const share = signed(token.share, 2);
        const isPrinted =
          strengthOf(token) >= PRINTED_STRENGTH && /[1-9]/.test(share) && segment.text.length <= PRINTED_CHARACTERS;
        segment.token = { share: token.share, strength: strengthOf(token), printed: isPrinted ? share : undefined };
      }
      segments.push(segment);
    }
    at = Math.max(at, end);
  };
  for (const token of explanation.tokens) {
    take(token.start);
    take(token.end, token);
  }
  take(text.length);
  return segments;
}

/** A token's share relative to the largest one of the text, 0 to 1. */
function strength({ tokens }: Explanation): (token: TokenShare) => number {
  const largest = tokens.reduce((most, { share }) => Math.max(most, Math.abs(share)), 1e-9);
  return ({ share }) => Math.abs(share) / largest;
}

function signed(value: number, decimals: number): string {
  return `${value < 0 ? "-" : "+"}${Math.abs(value).toFixed(decimals)}`;
}

// --- HTML ------------------------------------------------------------------------

export function renderHtml(title: string, explained: readonly ExplainedText[]): string {
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${escapeMarkup(title)}</title>
<style>${THEME}${HEAT_STYLE}
section { border-top: 1px solid var(--rule); padding: .75rem 0 } h2 { margin: 0; display: flex; justify-content: space-between; gap: 1rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere }
h2 + .heat { font-size: 1.25rem } small { color: var(--soft) }
</style></head>
<body><main>
<h1>${escapeMarkup(title)}</h1>
${heatLegend()}
${explained.map(renderSection).join("\n")}
</main></body></html>
`;
}

/** For a text within class="heat", and for class="legend". */
export const HEAT_STYLE = `.heat { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 2.2; max-width: none }
.heat .word { border-radius: 4px; padding: .1em .12em; background: rgb(var(--orange) / calc(.75 * var(--strength, 0))); print-color-adjust: exact; -webkit-print-color-adjust: exact }
.heat .against { background: rgb(var(--blue) / calc(.75 * var(--strength, 0))) }
.heat ruby { ruby-position: under; ruby-align: center } .heat rt { color: var(--soft); font: 600 .6875rem/1.3 system-ui, -apple-system, "Segoe UI", sans-serif; font-variant-numeric: tabular-nums; white-space: nowrap; padding: 0 .2em; user-select: none }
.legend { display: flex; flex-wrap: wrap; align-items: center; gap: .25rem .5rem; color: var(--soft); font-size: .875rem; max-width: none }
.legend i { width: 7rem; height: .75rem; border-radius: 4px; background: linear-gradient(to right, rgb(var(--blue) / .75), transparent, rgb(var(--orange) / .75)); print-color-adjust: exact; -webkit-print-color-adjust: exact }
`;

export const HEAT_NOTE =
  "The strongest word of each text has the full colour; the figures are the words' shares in the score.";

export function heatLegend(): string {
  return `<p class="legend"><span>against</span><i></i><span>for the label</span><span>${HEAT_NOTE}</span></p>`;
}

function renderSection(explained: ExplainedText): string {
  const { explanation } = explained;
  return `<section><h2><bdi>${escapeMarkup(explanation.label)}</bdi> <span>${explanation.score.toFixed(4)}</span></h2>
<p class="heat" dir="auto">${heatMap(explained)}</p>
<p><small>${summary(explanation)}</small></p></section>`;
}

/** The text as HTML, its tokens coloured by their shares. */
export function heatMap(explained: ExplainedText): string {
  return segmentsOf(explained)
    .map(({ text, token }) => {
      if (!token) return escapeMarkup(text);
      const word = `<span class="word${token.share < 0 ? " against" : ""}" style="--strength:${token.strength.toFixed(3)}" title="${signed(token.share, 4)}">${escapeMarkup(text)}</span>`;
      return token.printed === undefined ? word : `<ruby>${word}<rt>${token.printed}</rt></ruby>`;
    })
    .join("");
}

/** Sum of the shares, score, base and error, in one line. */
function summary({ method, score, base, sum, error }: Explanation): string {
  return `${method}: the shares add up to ${signed(sum, 6)}; score ${score.toFixed(6)} - base ${base.toFixed(6)}, error ${Math.abs(error).toExponential(1)}`;
}

// --- terminal ----------------------------------------------------------------------

/** Shades of the 256-colour palette, weak to strong, all light enough for black text. */
const SHADES_FOR = [230, 223, 216, 215, 208];
const SHADES_AGAINST = [195, 153, 117, 75, 39];

/** The label and score as `predict` prints them, then a line for each token; with `inColour` also the coloured text. */
export function renderText(explained: ExplainedText, inColour: boolean): string {
  const { explanation } = explained;
  const text = segmentsOf(explained)
    .map(({ text, token }) => (token ? shaded(oneLine(text), token.share, token.strength) : oneLine(text)))
    .join("");
  return [
    `${printable(explanation.label)}\t${explanation.score.toFixed(6)}`,
    ...(inColour ? [text] : []),
    ...explanation.tokens.map(({ token, share }) => `${signed(share, 6)}\t${oneLine(token)}`),
    summary(explanation),
    "",
  ].join("\n");
}

function shaded(text: string, share: number, opacity: number): string {
  const shades = share < 0 ? SHADES_AGAINST : SHADES_FOR;
  const shade = shades[Math.min(shades.length - 1, Math.floor(opacity * shades.length))]!;
  return `\u001b[38;5;16;48;5;${shade}m${text}\u001b[0m`;
}

function oneLine(text: string): string {
  return printable(text.replace(/[\t\n]/g, " "));
}
