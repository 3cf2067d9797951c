// Text that others wrote, made safe to show: on a terminal, in a log, in a page or a picture.

/** Replaces control characters, with which others could forge lines, move the cursor or turn text around. Joiners stay: emoji and some scripts need them. */
export function printable(text: string): string {
  return text.replace(/(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Noncharacter_Code_Point}\u2028\u2029]/gu, "\ufffd");
}

/** The same, but tabs and line feeds stay. */
export function printableLines(text: string): string {
  return text.replace(/[^\t\n]+/g, printable);
}

const references: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

/** For HTML and SVG, as text or in a quoted attribute. */
/** A word as a shell takes it: in single quotes. */
export function shellQuoted(word: string): string {
  return `'${word.replaceAll("'", String.raw`'\''`)}'`;
}

export function escapeMarkup(text: string): string {
  return printableLines(text).replace(/[&<>"']/g, (character) => references[character]!);
}
