// The one error of edgelabel that users can correct: the message says what is wrong and what to do.
// Any other error that is thrown is a defect of edgelabel, and the command line shows it with its stack.

export class EdgelabelError extends Error {
  override name = "EdgelabelError";
  /** For programs, stable: the engine's status, such as "bad_checksum" or "text_too_long", or one of "unreadable" and "invalid". */
  readonly code: string;

  constructor(message: string, code = "invalid") {
    super(message);
    this.code = code;
  }
}

const EXCERPT_CHARACTERS = 60;
const LISTED = 5;
const LISTED_CHARACTERS = 20;
/** Letters by which a name may differ from the one that is suggested. */
const MOST_EDITS = 3;
/** Controls, invisible characters, and the parts of decomposed letters. */
const UNSEEN = /[\p{Cc}\p{Cf}\u2028\u2029\u0300-\u036f\u1100-\u11ff\u3099\u309a\ufe00-\ufe0f]/u;

/** The beginning of a foreign text in quotes, for people: at most 60 characters, and what a terminal interprets or does not show is escaped. */
export function excerpt(text: string, most = EXCERPT_CHARACTERS): string {
  let shown = "";
  for (const character of text) {
    const next = UNSEEN.test(character) ? unicodeEscapes(character) : JSON.stringify(character).slice(1, -1);
    if (shown.length + next.length > most) return `"${shown}…"`;
    shown += next;
  }
  return `"${shown}"`;
}

/** As JSON may have them: one for each UTF-16 unit. */
export function unicodeEscapes(characters: string): string {
  return Array.from(
    { length: characters.length },
    (_, i) => `\\u${characters.charCodeAt(i).toString(16).padStart(4, "0")}`,
  ).join("");
}

/** The first of some foreign names, shortened, and how many more there are. */
export function listed(names: readonly string[]): string {
  const rest = names.length - LISTED;
  return (
    names
      .slice(0, LISTED)
      .map((name) => excerpt(name, LISTED_CHARACTERS))
      .join(", ") + (rest > 0 ? ` and ${rest} more` : "")
  );
}
/** The known name that `name` is a slip of the keyboard away from; undefined when none is so close. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  const [best] = known
    .map((other) => ({ other, distance: editDistance(name, other) }))
    .sort((a, b) => a.distance - b.distance);
  return best !== undefined && best.distance <= MOST_EDITS ? best.other : undefined;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(
        Math.min(
          row[j]! + 1,
          next[j - 1]! + 1,
          row[j - 1]! + (a[i - 1]!.toLowerCase() === b[j - 1]!.toLowerCase() ? 0 : 1),
        ),
      );
    }
    row = next;
  }
  return row[b.length]!;
}
