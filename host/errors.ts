// Errors that the user can correct: the message says what is wrong and what to do.
// Any other error that is thrown is a defect of edgelabel, and is shown with its stack.

export class UserError extends Error {
  override name = "UserError";
}

const EXCERPT_CHARACTERS = 60;
const LISTED = 5;
/** Controls, invisible characters, and the parts of decomposed letters. */
const UNSEEN = /[\p{Cc}\p{Cf}\u2028\u2029\u0300-\u036f\u1100-\u11ff\u3099\u309a\ufe00-\ufe0f]/gu;

/** Text of a file or message, in quotes, for people: cut to 60 characters, and what a terminal interprets or does not show is escaped. */
export function excerpt(text: string): string {
  // As many code units hold the characters that are shown; a file of one line is not split into all of its own.
  const characters = [...text.slice(0, 2 * EXCERPT_CHARACTERS + 2)];
  const part = characters.length > EXCERPT_CHARACTERS ? `${characters.slice(0, EXCERPT_CHARACTERS - 1).join("")}…` : text;
  return JSON.stringify(part).replace(UNSEEN, (character) => character.replace(/[^]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`));
}

/** The first of the names as excerpts, and how many more there are. */
export function listed(names: readonly string[]): string {
  const rest = names.length - LISTED;
  return names.slice(0, LISTED).map(excerpt).join(", ") + (rest > 0 ? ` and ${rest} more` : "");
}
