// The look that all pages and pictures share: colours in a light and a dark scheme, type, figures,
// tables. Orange and blue can be told apart by colour-blind people, too.

const LIGHT = {
  ink: "#16202c",
  soft: "#4a5766",
  page: "#fff",
  panel: "#f4f6f8",
  rule: "#d5dbe2",
  accent: "#1d5fc4",
  "on-accent": "#fff",
  second: "#b84a00",
  other: "#7a8796",
  bad: "#b3261e",
  good: "#1a7f37",
  // Red, green, blue, for what is more or less opaque.
  blue: "29 95 196",
  orange: "213 94 0",
};

const DARK: typeof LIGHT = {
  ink: "#e8edf3",
  soft: "#aab5c2",
  page: "#12171d",
  panel: "#1b222b",
  rule: "#34404d",
  accent: "#7db1ff",
  "on-accent": "#0d1420",
  second: "#f59a4c",
  other: "#8b98a8",
  bad: "#ff9a90",
  good: "#3fb950",
  blue: "64 124 224",
  orange: "213 94 0",
};

const declared = (colours: typeof LIGHT): string =>
  Object.entries(colours)
    .map(([name, value]) => `--${name}: ${value}`)
    .join("; ");

/** For pages: the colours as variables, and what all pages have. */
export const THEME = `:root { color-scheme: light dark; ${declared(LIGHT)} }
@media (prefers-color-scheme: dark) { :root { ${declared(DARK)} } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 4rem }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 1rem; overflow-wrap: anywhere }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem }
p { margin: .5rem 0; max-width: 44rem }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .75rem; margin: 0 }
.figures div { background: var(--panel); border-radius: 8px; padding: .75rem 1rem }
dt { color: var(--soft); font-size: .875rem } dd { margin: 0; font-size: 1.6rem; font-weight: 600; font-variant-numeric: tabular-nums }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9375rem }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--rule); font-weight: 400; white-space: nowrap }
th:first-child { text-align: left } thead th { color: var(--soft); font-size: .875rem; vertical-align: bottom }
.matrix th, .matrix td { padding: .25rem .45rem; text-align: center; min-width: 2.4rem } .matrix th:first-child { text-align: left; position: sticky; left: 0; background: var(--page) }
.matrix thead span { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 9rem; overflow: hidden; text-overflow: ellipsis }
.matrix td { color: var(--soft) } .matrix .right, .matrix .wrong { color: var(--ink) }
.matrix .right { background: rgb(var(--blue) / calc(.08 + .3 * var(--share))) } .matrix .wrong { background: rgb(var(--orange) / calc(.1 + .4 * var(--share))) }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1rem 2rem; align-items: start }
`;

/** Styles for a picture of its own, which not every viewer gives variables: the rules in light colours, then in dark ones. */
export function pictureStyle(rules: string): string {
  const filled = (colours: Record<string, string>): string =>
    rules.replace(/var\(--([\w-]+)\)/g, (_, name: string) => colours[name]!);
  return `${filled(LIGHT)}@media(prefers-color-scheme:dark){${filled(DARK)}}`;
}
