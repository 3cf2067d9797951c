// The topics of a node and its group, and the rules for answer topics that requesters choose.
// Request topics (`classify`) and answer topics (`label`, `reply`) are separate trees, so that no
// answer can come back as a request.
import { checkLevel } from "../names.ts";
import { EdgelabelError } from "../errors.ts";

/** The topics on which a node or a group receives requests and answers them. */
export interface RequestTopics {
  /** Requests go to this topic, or one level below it, which names a model. */
  classify: string;
  /** A user's requests go to USER/classify below this topic, where the broker lets only that user publish. */
  from: string;
  /** Answers to requests that name no topic. */
  label: string;
  /** Requesters may choose any topic below this one for their answers. */
  reply: string;
  /** Who asks, if the request's topic says so: then the answer goes to `reply` or below it, and nowhere else. */
  user?: string | undefined;
}

export interface Topics extends RequestTopics {
  root: string;
  node: string;
  /** Each request to the group goes to one of its workers, through a shared subscription of this name. */
  group?: (RequestTopics & { name: string }) | undefined;
  status: string;
  info: string;
  /** Figures for people and dashboards, if the configuration file asks for them. */
  metrics: string;
  /** Commands, with verb and id as further levels. */
  command: string;
}

export interface ResponseRules {
  /** Topic filters that answers may go to, besides `label` and `reply` of this node and its group. */
  allow: readonly string[];
  /** Topic filters that answers may not go to, whatever `allow` says. */
  deny: readonly string[];
}

const MAX_TOPIC_BYTES = 1024;
const MAX_TOPIC_LEVELS = 64;
const unfitForTopics = /[\p{Cc}\p{Cs}\p{Noncharacter_Code_Point}]/u;

function requestTopicsBelow(base: string): RequestTopics {
  return { classify: `${base}/classify`, from: `${base}/from`, label: `${base}/label`, reply: `${base}/reply` };
}

export function topicsOf(root: string, node: string, group?: string): Topics {
  const base = `${checkRoot(root)}/${checkLevel("node name", node)}`;
  if (group === node)
    throw new EdgelabelError(
      `the group and the node are both called ${node}; all of a group share its name, and each node needs one of its own`,
    );
  return {
    root,
    node,
    ...requestTopicsBelow(base),
    group:
      group === undefined
        ? undefined
        : { name: checkLevel("group name", group), ...requestTopicsBelow(`${root}/${group}`) },
    status: `${base}/status`,
    info: `${base}/info`,
    metrics: `${base}/metrics`,
    command: `${base}/cmd`,
  };
}

function checkRoot(root: string): string {
  for (const level of root.split("/")) checkLevel("topic root", level);
  return root;
}

function isAtOrBelow(topic: string, base: string): boolean {
  return topic.startsWith(base) && (topic.length === base.length || topic[base.length] === "/");
}

/** The topics of the node, and those of its group. */
export function ownRequestTopics(topics: Topics): RequestTopics[] {
  return topics.group ? [topics, topics.group] : [topics];
}

/** Filters of all requests to a node or a group. */
export function requestFilters({ classify, from }: RequestTopics): string[] {
  return [`${classify}/#`, `${from}/+/classify/#`];
}

/** The topics of whom a request on `topic` is for, the node or its group; undefined if it is not a request topic. */
export function requestTopicsOf(topics: Topics, topic: string): RequestTopics | undefined {
  for (const asked of ownRequestTopics(topics)) {
    if (isAtOrBelow(topic, asked.classify)) return asked;
    if (topic.startsWith(`${asked.from}/`))
      return topicsOfUser(asked, topic.slice(asked.from.length + 1).split("/", 1)[0]!, topic);
  }
  return undefined;
}

function topicsOfUser({ from, reply }: RequestTopics, user: string, topic: string): RequestTopics | undefined {
  const { classify, reply: own } = userTopics({ from, reply }, user);
  return user !== "" && isAtOrBelow(topic, classify) ? { classify, from, label: own, reply: own, user } : undefined;
}

/** Whether a user's name can be a level of a topic. */
export function isUserLevel(name: string): boolean {
  return name !== "" && !/[/+#]/.test(name) && !unfitForTopics.test(name);
}

/** Where a user sends requests, and below which topic the answers go. */
export function userTopics(
  { from, reply }: Pick<RequestTopics, "from" | "reply">,
  user: string,
): Pick<RequestTopics, "classify" | "reply"> {
  return { classify: `${from}/${user}/classify`, reply: `${reply}/${user}` };
}

/** The model that a request topic names; "" means the default one. */
export function modelInTopic({ classify }: RequestTopics, topic: string): string {
  return topic.slice(classify.length + 1);
}

/** Whether an MQTT topic filter covers a topic. */
export function filterMatches(filter: string, topic: string): boolean {
  const wanted = filter.split("/");
  const levels = topic.split("/");
  // [MQTT-4.7.2-1] a filter that opens with a wildcard does not reach `$` topics.
  if (topic.startsWith("$") && /^[#+]/.test(filter)) return false;
  for (const [i, level] of wanted.entries()) {
    if (level === "#") return true;
    if (i >= levels.length || (level !== "+" && level !== levels[i])) return false;
  }
  return wanted.length === levels.length;
}

export function isTopicFilter(filter: string): boolean {
  if (filter === "" || Buffer.byteLength(filter) > MAX_TOPIC_BYTES || unfitForTopics.test(filter)) return false;
  return filter
    .split("/")
    .every((level, i, all) => level === "+" || (level === "#" && i === all.length - 1) || !/[+#]/.test(level));
}

/** Whether some topic is covered by both filters. */
export function filtersOverlap(a: string, b: string): boolean {
  const [left, right] = [a.split("/"), b.split("/")];
  for (let i = 0; ; i++) {
    if (left[i] === "#" || right[i] === "#") return true;
    if (left[i] === undefined || right[i] === undefined) return left[i] === right[i];
    if (left[i] !== right[i] && left[i] !== "+" && right[i] !== "+") return false;
  }
}

/** Whether `filter` covers all that `other` covers. */
export function filterCovers(filter: string, other: string): boolean {
  if (other.startsWith("$") && /^[#+]/.test(filter)) return false;
  const [wide, narrow] = [filter.split("/"), other.split("/")];
  for (const [i, level] of wide.entries()) {
    if (level === "#") return true;
    if (narrow[i] === undefined || narrow[i] === "#" || (level !== "+" && level !== narrow[i])) return false;
  }
  return wide.length === narrow.length;
}

export const NOT_THE_USERS = "not_the_users";

/** Why an answer to a user may not go to `topic`, even if other answers may; undefined if it may. */
export function userTopicFault({ user, reply }: RequestTopics, topic: string): string | undefined {
  return user === undefined || isAtOrBelow(topic, reply) ? undefined : NOT_THE_USERS;
}

/** Why an answer may not go to `topic`, as a word for the metrics; undefined if it may. */
export function answerTopicFault(topic: string, topics: Topics, rules: ResponseRules): string | undefined {
  if (topic === "") return "empty";
  if (Buffer.byteLength(topic) > MAX_TOPIC_BYTES) return "too_long";
  if (unfitForTopics.test(topic)) return "bad_character";
  if (/[+#]/.test(topic)) return "wildcard";
  if (topic.startsWith("$")) return "reserved";
  if (topic.split("/").length > MAX_TOPIC_LEVELS) return "too_deep";
  // Below our root are the request and command topics of all nodes.
  const isFree = ownRequestTopics(topics).some(
    ({ label, reply }) => isAtOrBelow(topic, label) || topic.startsWith(`${reply}/`),
  );
  if (isAtOrBelow(topic, topics.root) && !isFree) return "inside_root";
  if (rules.deny.some((filter) => filterMatches(filter, topic))) return "denied";
  // Our own answer topics are always allowed.
  if (isFree) return undefined;
  if (!rules.allow.some((filter) => filterMatches(filter, topic))) return "not_allowed";
  return undefined;
}
