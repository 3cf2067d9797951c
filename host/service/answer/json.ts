// JSON from others -> values, and values -> JSON. What it adds to JSON.parse and JSON.stringify:
//
//   depth     at most MAX_DEPTH levels, so that code that walks through a value has enough stack
//   numbers   what a double cannot hold exactly becomes an ExactNumber, which is written with
//             its original digits: 64-bit ids, nanoseconds, SIM numbers
//   faults    are named by position, without quoting the text
import { randomUUID } from "node:crypto";

const MAX_DEPTH = 64;
/** No double needs as many characters; longer numbers are refused. */
const MAX_NUMBER_LENGTH = 400;
/** A double holds any number up to this length that has no exponent. */
const SAFE_NUMBER_LENGTH = 15;
/** Stands before the digits of an ExactNumber where JSON.parse and JSON.stringify need a string. Never leaves this file. */
const MARK = randomUUID();
const MARKED = new RegExp(`"${MARK}([^"]*)"`, "g");

const NUMBER = /^(-?)(0|[1-9]\d*)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/;
const LITERALS = ["true", "false", "null"];

const TAB = 0x09;
const SPACE = 0x20;
const QUOTE = 0x22;
const PLUS = 0x2b;
const COMMA = 0x2c;
const MINUS = 0x2d;
const POINT = 0x2e;
const COLON = 0x3a;
const OPEN_ARRAY = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_ARRAY = 0x5d;
const LETTER_E = 0x65;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/** The message completes "the payload is …", such as "not JSON from character 7 on". */
export class JsonError extends Error {
  override name = "JsonError";
}

/** A number that no double holds exactly. */
export class ExactNumber {
  readonly #digits: string;
  constructor(digits: string) {
    this.#digits = digits;
  }
  /** As it was written. */
  toString(): string {
    return this.#digits;
  }
  /** For JSON.stringify, which has no other way to keep the digits; toJson writes a number. */
  toJSON(): string {
    return this.#digits;
  }
}

const decoder = new TextDecoder("utf-8", { fatal: true });

/** Ignores a byte order mark before the JSON and NULs after it. Throws a JsonError. */
export function fromJson(bytes: Uint8Array): unknown {
  let end = bytes.length;
  while (bytes[end - 1] === 0) end--;
  let json: string;
  try {
    json = decoder.decode(end < bytes.length ? bytes.subarray(0, end) : bytes);
  } catch {
    throw new JsonError("not UTF-8");
  }
  const inexact = scan(json);
  try {
    return inexact.length === 0 ? JSON.parse(json) : restored(JSON.parse(marked(json, inexact)));
  } catch (error) {
    // Marks have shifted everything after them, so the position is wrong.
    const at = inexact.length === 0 ? /at position (\d+)/.exec((error as Error).message)?.[1] : undefined;
    throw new JsonError(at === undefined ? "not JSON" : notJson(Number(at)));
  }
}

export function toJson(value: unknown): string {
  let isMarked = false;
  const json = JSON.stringify(value, function (this: Record<string, unknown>, key, part: unknown) {
    if (!(this[key] instanceof ExactNumber)) return part;
    isMarked = true;
    return `${MARK}${part}`;
  });
  return isMarked ? json.replace(MARKED, "$1") : json;
}

function notJson(at: number): string {
  return `not JSON from character ${at + 1} on`;
}

/** Scans everything outside of strings. Returns start and end of each number that a double does not hold exactly; throws a JsonError for what cannot be JSON. */
function scan(json: string): number[] {
  const inexact: number[] = [];
  let depth = 0;
  for (let i = 0; i < json.length; i++) {
    const code = json.charCodeAt(i);
    if (code === QUOTE) i = stringEnd(json, i);
    else if (code === OPEN_OBJECT || code === OPEN_ARRAY) {
      if (++depth > MAX_DEPTH) throw new JsonError(`JSON of more than ${MAX_DEPTH} levels`);
    } else if (code === CLOSE_OBJECT || code === CLOSE_ARRAY) depth--;
    else if (isDigit(code) || code === MINUS) {
      const start = i;
      let hasExponent = false;
      for (let next = json.charCodeAt(i + 1); isOfNumber(next); next = json.charCodeAt(++i + 1))
        hasExponent ||= (next | 0x20) === LETTER_E;
      if ((hasExponent || i + 1 - start > SAFE_NUMBER_LENGTH) && !isDouble(json.slice(start, i + 1)))
        inexact.push(start, i + 1);
    } else if (code !== COMMA && code !== COLON && code !== SPACE && !(code >= TAB && code < SPACE)) {
      const literal = LITERALS.find((each) => json.startsWith(each, i));
      if (literal === undefined)
        throw new JsonError(
          `${notJson(i)}${/^(?:nan|inf)/i.test(json.slice(i, i + 3)) ? ", which has no NaN and no Infinity" : ""}`,
        );
      i += literal.length - 1;
    }
  }
  if (depth > 0) throw new JsonError("not JSON: it is cut off");
  return inexact;
}

/** Position of the quote that ends the string. */
function stringEnd(json: string, start: number): number {
  for (let i = start + 1; i < json.length; i++) {
    const code = json.charCodeAt(i);
    if (code === QUOTE) return i;
    if (code === BACKSLASH) i++;
  }
  throw new JsonError("not JSON: it is cut off");
}

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}

/** Digits, and "+-.eE". */
function isOfNumber(code: number): boolean {
  return isDigit(code) || code === PLUS || code === MINUS || code === POINT || (code | 0x20) === LETTER_E;
}

/** Whether a double holds the number exactly; also true for what is not a number, which JSON.parse will reject. */
function isDouble(number: string): boolean {
  if (number.length > MAX_NUMBER_LENGTH)
    throw new JsonError(`JSON with a number of more than ${MAX_NUMBER_LENGTH} characters`);
  if (!NUMBER.test(number)) return true;
  const double = Number(number);
  return Number.isFinite(double) && decimal(number) === decimal(String(double));
}

/** Sign, digits without zeros at either end, and the power of ten of the last one: the same for 1.50, 15e-1 and 0.15e1. */
function decimal(number: string): string {
  const [, sign, whole, fraction = "", exponent = "0"] = NUMBER.exec(number)!;
  const digits = (whole + fraction).replace(/^0+/, "");
  let length = digits.length;
  while (digits[length - 1] === "0") length--;
  return length === 0
    ? "0"
    : `${sign}${digits.slice(0, length)}e${Number(exponent) - fraction.length + digits.length - length}`;
}

/** The mark is an array, since a lone string would be accepted as a key, where a number is not. */
function marked(json: string, inexact: readonly number[]): string {
  let text = "";
  let at = 0;
  for (let i = 0; i < inexact.length; i += 2) {
    const [start, end] = [inexact[i]!, inexact[i + 1]!];
    text += `${json.slice(at, start)}["${MARK}","${json.slice(start, end)}"]`;
    at = end;
  }
  return text + json.slice(at);
}

/** Puts ExactNumbers in the places of the marks. */
function restored(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) {
    if (value[0] === MARK) return new ExactNumber(value[1] as string);
    for (let i = 0; i < value.length; i++) value[i] = restored(value[i]);
    return value;
  }
  const object = value as Record<string, unknown>;
  for (const key of Object.keys(object)) object[key] = restored(object[key]);
  return object;
}
