// What commands say: results on stdout, at the pace of their reader, and remarks on stderr.
import { stat } from "node:fs/promises";
import { excerpt, unicodeEscapes } from "../errors.ts";
import { printableLines } from "../escape.ts";
import { asTyped } from "../program-name.ts";

/** Writes to stdout; resolves when it accepts more. Names and labels in text come from files of others, so it is made printable; bytes are written as they are. */
export async function print(content: string | Uint8Array): Promise<void> {
  if (!process.stdout.write(typeof content === "string" ? printableLines(content) : content))
    await new Promise((resolve) => process.stdout.once("drain", resolve));
}

/** Control characters are escaped, which says the same in JSON. */
export async function printJson(value: unknown): Promise<void> {
  await print(`${JSON.stringify(value).replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, unicodeEscapes)}\n`);
}

/** Writes a remark for people to stderr; stdout is for results. */
export function note(text: string): void {
  process.stderr.write(`edgelabel: ${printableLines(asTyped(text))}\n`);
}

/** Tells the user when the only text is a file's name; `command` is what reads lines, `more` what else reads files. */
export async function noteFileName(texts: readonly string[], command: string, more = ""): Promise<void> {
  const [name] = texts;
  if (
    texts.length !== 1 ||
    !(await stat(name!).then(
      (found) => found.isFile(),
      () => false,
    ))
  )
    return;
  note(
    `${excerpt(name!)} is the name of a file, but was read as a text; to read its lines: edgelabel ${command} < FILE${more}`,
  );
}
