// Routes and announcements as the configuration file has them, and whether they can work.
//
// Nothing may be published to a topic that this node is subscribed to: any template that could become one is refused.
import { EdgelabelError } from "../../errors.ts";
import { filtersOverlap, isTopicFilter, ownRequestTopics, requestFilters } from "../topics.ts";
import type { Topics } from "../topics.ts";
import { checkTemplate, topicFilter } from "./template.ts";
import type { Json } from "./template.ts";

export interface RouteOutput {
  /** If `{label}` is in it, a text with several labels is published once for each. */
  topic: string;
  /** Default: {"label", "score", "labels", "model", "version"}, `labels` of models that give several. */
  payload?: Json | undefined;
  /** For which labels: known ones, unknown ones (below the threshold), any, or those named. */
  when: "known" | "unknown" | "any" | readonly string[];
  /** Only when the label, or the set of labels, differs from the last one of the same source topic. */
  onChange: boolean;
  qos: 0 | 1;
  retain: boolean;
}

export interface RouteSettings {
  name: string;
  filter: string;
  /** JSON pointers to the parts of the text; without any, the payload is the text. */
  text: readonly string[];
  /** "" means the default model. */
  model: string;
  threshold: number;
  /** JSON pointer to an array of labels in the message: the best one of these is the answer. */
  among?: string | undefined;
  outputs: readonly RouteOutput[];
}

/** A retained message about this node, by which other programs discover it. */
export interface Announcement {
  topic: string;
  payload: Json;
  /** Published again when this message comes, such as Home Assistant's birth message. */
  again?: { topic: string; payload?: string | undefined } | undefined;
}

const ROUTE_PLACEHOLDERS = [
  "label",
  "score",
  "labels",
  "scores",
  "predictions",
  "model",
  "version",
  "digest",
  "node",
  "root",
  "route",
  "topic",
  "text",
  "id",
  "time",
  "bytes",
  "sha256",
];

const ANNOUNCEMENT_PLACEHOLDERS = [
  "node",
  "root",
  "version",
  "model",
  "labels",
  "status",
  "info",
  "metrics",
  "classify",
  "label",
  "command",
  "waiting",
  "id",
];

/** Throws an EdgelabelError for the first route or announcement that cannot work, or whose output the node would receive itself. */
export function checkOutputs({
  routes = [],
  announcements = [],
  topics,
}: {
  routes?: readonly RouteSettings[];
  announcements?: readonly Announcement[];
  topics: Topics;
}): void {
  const subscribed = [
    ...routes.map(({ filter }) => filter),
    ...repeatTopics(announcements),
    ...ownRequestTopics(topics).flatMap(requestFilters),
    `${topics.command}/#`,
    topics.status,
    topics.info,
  ];
  checkRoutes(routes, topics, subscribed);
  for (const { topic, payload } of announcements) {
    const who = `announcement ${topic}`;
    checkTemplate(topic, ANNOUNCEMENT_PLACEHOLDERS, who);
    checkTemplate(payload, ANNOUNCEMENT_PLACEHOLDERS, who);
    checkTopic(topic, subscribed, who);
  }
}

/** Topics of the messages at which announcements are published again. */
export function repeatTopics(announcements: readonly Announcement[]): string[] {
  return announcements.flatMap(({ again }) => (again ? [again.topic] : []));
}

function checkRoutes(routes: readonly RouteSettings[], topics: Topics, subscribed: readonly string[]): void {
  const names = new Set<string>();
  for (const { name, filter, outputs } of routes) {
    if (names.has(name))
      throw new EdgelabelError(
        `two routes are called "${name}"; each needs a name of its own, by which it is counted and its last labels are kept`,
      );
    names.add(name);
    if (filtersOverlap(filter, `${topics.root}/#`))
      throw new EdgelabelError(
        `route "${name}": its filter ${filter} covers edgelabel's own topics below ${topics.root}/; name the topics of the other program`,
      );
    const levels = filter.split("/").filter((level) => level === "+").length;
    for (const { topic, payload, onChange } of outputs) {
      if (onChange && topics.group)
        throw new EdgelabelError(
          `route "${name}": "on": "change" needs all messages of a source, and a worker of the group ${topics.group.name} receives only some of them; remove it, or serve this route outside the group`,
        );
      checkTemplate(topic, ROUTE_PLACEHOLDERS, `route "${name}", topic`, levels);
      if (payload !== undefined) checkTemplate(payload, ROUTE_PLACEHOLDERS, `route "${name}", payload`, levels);
      checkTopic(topic, subscribed, `route "${name}"`);
    }
  }
}

function checkTopic(template: string, subscribed: readonly string[], who: string): void {
  const pattern = topicFilter(template);
  if (!isTopicFilter(pattern) || /[+#]/.test(template.replace(/\{[^{}]*\}/g, "")) || template.startsWith("$"))
    throw new EdgelabelError(`${who}: ${JSON.stringify(template)} is not a topic that can be published to`);
  const loop = subscribed.find((each) => filtersOverlap(pattern, each));
  if (loop !== undefined)
    throw new EdgelabelError(
      `${who}: its output ${template} would be received again through ${loop}; give it a topic that nothing here subscribes to`,
    );
}
