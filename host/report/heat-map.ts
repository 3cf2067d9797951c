// Explanations -> heat maps: a self-contained page of HTML, text in a terminal's colours, or
// plain lines. Orange speaks for the label and blue against it, which colour-blind people can
// tell apart too; the larger the share, the more opaque. Texts are not trusted: HTML is
// escaped, and control characters reach neither page nor terminal.
import { escapeMarkup, printable } from "../escape.ts";
import type { Explanation, TokenShare } from "../model/explanation.ts";

export interface ExplainedText {
  text: Uint8Array;
  explanation: Explanation;
}

const FOR = [213, 94, 0] as const;
const AGAINST = [0, 114, 178] as const;
/** Opacity of the largest share: black text stays readable on it. */
const MOST_OPAQUE = 0.75;
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

interface Segment {
  text: string;
  token?: TokenShare;
}

/** The whole text in order: the tokens, and the text between them. */
function segmentsOf({ text, explanation }: ExplainedText): Segment[] {
  const segments: Segment[] = [];
  let at = 0;
  const take = (end: number, token?: TokenShare): void => {
    if (end > at) segments.push({ text: decoder.decode(text.subarray(at, end)), ...(token ? { token } : {}) });
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

function colour(share: number, opacity: number): string {
  return `rgba(${(share < 0 ? AGAINST : FOR).join(",")},${(opacity * MOST_OPAQUE).toFixed(3)})`;
}

export function renderHtml(title: string, explained: readonly ExplainedText[]): string {
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${escapeMarkup(title)}</title>
<style>
body { font: 16px/1.8 sans-serif; max-width: 50em; margin: 2em auto; padding: 0 1em; color: #000; background: #fff }
h1 { font-size: 1.3em } h2 { font-size: 1em; margin: 1.4em 0 0 } .text { font-size: 1.2em } p { margin: .2em 0 }
small { color: #444 }
${HEAT_STYLE}</style>
<h1>${escapeMarkup(title)}</h1>
${heatLegend()}
${explained.map(renderSection).join("\n")}
</html>
`;
}

export const HEAT_STYLE = `.text { white-space: pre-wrap; overflow-wrap: anywhere } .text span { border-radius: 3px; padding: 1px 0 }
.legend i { display: inline-block; width: 8em; height: 1em; vertical-align: middle }
`;

export function heatLegend(): string {
  return `<p class="legend">against <i style="background:linear-gradient(to right,${colour(-1, 1)},transparent,${colour(1, 1)})"></i> for the label; hover over a word for its share of the score</p>`;
}

function renderSection(explained: ExplainedText): string {
  const { explanation } = explained;
  return `<h2><bdi>${escapeMarkup(explanation.label)}</bdi> ${explanation.score.toFixed(4)}</h2>
<p class="text" dir="auto">${heatMap(explained)}</p>
<p><small>${summary(explanation)}</small></p>`;
}

/** The text as HTML, its tokens coloured by their shares. */
export function heatMap(explained: ExplainedText): string {
  const strengthOf = strength(explained.explanation);
  return segmentsOf(explained)
    .map(({ text, token }) =>
      token
        ? `<span style="background:${colour(token.share, strengthOf(token))}" title="${signed(token.share, 4)}">${escapeMarkup(text)}</span>`
        : escapeMarkup(text),
    )
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
  const strengthOf = strength(explanation);
  const text = segmentsOf(explained)
    .map(({ text, token }) => (token ? shaded(oneLine(text), token.share, strengthOf(token)) : oneLine(text)))
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
