// Templates for topics and payloads, from the configuration file: `{name}` stands for a value, `{1}`
// for what the first + of the filter matched, `{/a/b}` for what a JSON pointer finds in the received
// payload. Jinja's `{{ name }}`, which is common in Home Assistant's payloads, is left alone.
import { EdgelabelError } from "../../errors.ts";
import { toJson } from "./json.ts";
import { isTopicFilter } from "../topics.ts";

export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

/** The value of a placeholder; undefined when there is none. */
export type Values = (name: string) => unknown;

const placeholder = /(?<!\{)\{([A-Za-z_]\w*|[1-9]|\/[^{}]*)\}(?!\})/g;
const whole = /^\{([A-Za-z_]\w*|[1-9]|\/[^{}]*)\}$/;

/**
 * Throws an EdgelabelError that names `where` if a template has an unknown placeholder. `levels` is how many of `{1}`, `{2}` …
 * there are; undefined means that there is no received message, and so no JSON pointers either.
 */
export function checkTemplate(template: Json, known: readonly string[], where: string, levels?: number): void {
  if (typeof template === "string") {
    const isOfMessage = (name: string) => levels !== undefined && (name.startsWith("/") || Number(name) <= levels);
    for (const [, name] of template.matchAll(placeholder)) {
      if (known.includes(name!) || isOfMessage(name!)) continue;
      const names = [
        ...known,
        ...(levels === undefined ? [] : [...Array.from({ length: levels }, (_, i) => i + 1), "/json/pointer"]),
      ];
      throw new EdgelabelError(
        `${where}: {${name}} stands for nothing; known are ${names.map((each) => `{${each}}`).join(", ")}`,
      );
    }
  } else if (typeof template === "object" && template !== null) {
    for (const part of Object.values(template)) checkTemplate(part, known, where, levels);
  }
}

/** A string that is just one placeholder becomes its value, whatever its type. JSON then leaves out keys whose value is undefined. */
export function fill(template: Json, values: Values): unknown {
  if (typeof template === "string") {
    const name = whole.exec(template)?.[1];
    return name === undefined ? template.replace(placeholder, (_, part: string) => asText(values(part))) : values(name);
  }
  if (Array.isArray(template)) return template.map((part) => fill(part, values));
  if (typeof template !== "object" || template === null) return template;
  return Object.fromEntries(Object.entries(template).map(([key, part]) => [key, fill(part, values)]));
}

export function fillPayload(template: Json, values: Values): string {
  return asText(fill(template, values));
}

/** Each value stays within one level, whatever it holds. Undefined when a value is missing. */
export function fillTopic(template: string, values: Values): string | undefined {
  let isComplete = true;
  const topic = template.replace(placeholder, (_, name: string) => {
    const level = asText(values(name))
      .replace(/[/+#\p{Cc}\p{Cs}\p{Noncharacter_Code_Point}]/gu, "_")
      .replace(/^\$/, "_");
    if (level === "") isComplete = false;
    return level;
  });
  return isComplete && isTopicFilter(topic) ? topic : undefined;
}

/** The filter of all topics that a template can become. */
export function topicFilter(template: string): string {
  // Placeholders are replaced before the split, since JSON pointers contain slashes.
  return template
    .replace(placeholder, "\0")
    .split("/")
    .map((level) => (level.includes("\0") ? "+" : level))
    .join("/");
}

function asText(value: unknown): string {
  if (value === undefined || value === null) return "";
  return typeof value === "string" ? value : toJson(value);
}

/** What a JSON pointer such as "/a/0/b~1c" finds in `value` (RFC 6901); undefined when it finds nothing. */
export function pointedAt(value: unknown, pointer: string): unknown {
  let found = value;
  for (const token of pointer.split("/").slice(1)) {
    const key = token.replaceAll("~1", "/").replaceAll("~0", "~");
    if (typeof found !== "object" || found === null || !Object.hasOwn(found, key)) return undefined;
    found = (found as Record<string, unknown>)[key];
  }
  return found;
}
