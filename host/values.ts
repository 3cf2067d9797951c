// Values that people type for an option or a setting: what is allowed, and how it is read.
import { MAX_NAME_BYTES } from "../assembly/abi.ts";
import { byteLength } from "./text.ts";

export interface Values<T> {
  /** What is allowed, as in "it takes a number from 0 to 1". */
  takes: string;
  /** The same in a list, where it has to be short; "" for switches. */
  range: string;
  /** undefined when `text` is not allowed. */
  read(text: string): T | undefined;
  /** A value as one types it, undefined when that is too long for a list; absent: as String() has it. */
  typed?(value: T): string | undefined;
}

export function wholeNumbers(least: number, most: number): Values<number> {
  const range = `${least} to ${most}`;
  return {
    takes: `a whole number from ${range}`,
    range,
    read: (text) => (/^\d+$/.test(text) && Number(text) >= least && Number(text) <= most ? Number(text) : undefined),
  };
}

/** A number that is typed: the empty text is none. */
function numbers(takes: string, range: string, isAllowed: (value: number) => boolean): Values<number> {
  return { takes, range, read: (text) => (text.trim() !== "" && isAllowed(Number(text)) ? Number(text) : undefined) };
}

/** Above 0, and as high as the trainer takes them. */
export const positive = numbers("a number above 0 and below 1000000", ">0", (value) => value > 0 && value < 1e6);

export const notNegative = numbers("a number from 0 to below 1000000", ">=0", (value) => value >= 0 && value < 1e6);

export const share = numbers("a number from 0 to 1", "0 to 1", (value) => value >= 0 && value <= 1);

/** A share that leaves something, such as a dropout. */
export const shareBelow1 = numbers("a number from 0 to below 1", "0 to <1", (value) => value >= 0 && value < 1);

/** A text that a model file has room for, such as a word. */
export const shortText: Values<string> = {
  takes: `1 to ${MAX_NAME_BYTES} bytes of text`,
  range: "text",
  read: (text) => (text !== "" && byteLength(text) <= MAX_NAME_BYTES ? text : undefined),
};

/** Each word with the value that it stands for. */
export function words<T>(meanings: Readonly<Record<string, T>>): Values<T> {
  const names = Object.keys(meanings);
  return {
    takes: names.join(" or "),
    range: names.join(", "),
    read: (text) => (Object.hasOwn(meanings, text) ? meanings[text] : undefined),
    typed: (value) => names.find((name) => meanings[name] === value)!,
  };
}

export const onOff: Values<boolean> = { ...words({ true: true, false: false }), range: "" };
