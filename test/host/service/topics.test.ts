import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkLevel, levelOf, slug } from "../../../host/names.ts";
import {
  answerTopicFault,
  filterCovers,
  filterMatches,
  filtersOverlap,
  isTopicFilter,
  isUserLevel,
  requestFilters,
  requestTopicsOf,
  modelInTopic,
  topicsOf,
  userTopicFault,
} from "../../../host/service/topics.ts";

const topics = topicsOf("edgelabel", "gate-1");
const open = { allow: ["#"], deny: [] };

test("the topics of a node", () => {
  expect(topicsOf("site/labels", "n")).toEqual({
    root: "site/labels",
    node: "n",
    classify: "site/labels/n/classify",
    from: "site/labels/n/from",
    label: "site/labels/n/label",
    reply: "site/labels/n/reply",
    status: "site/labels/n/status",
    info: "site/labels/n/info",
    metrics: "site/labels/n/metrics",
    command: "site/labels/n/cmd",
  });
  expect(modelInTopic(topics, "edgelabel/gate-1/classify")).toBe("");
  expect(modelInTopic(topics, "edgelabel/gate-1/classify/spam")).toBe("spam");
});

test("the topics of a group stand beside the node's", () => {
  const pooled = topicsOf("edgelabel", "gate-1", "pool");
  expect(pooled.group).toEqual({
    name: "pool",
    classify: "edgelabel/pool/classify",
    from: "edgelabel/pool/from",
    label: "edgelabel/pool/label",
    reply: "edgelabel/pool/reply",
  });
  expect(requestTopicsOf(pooled, "edgelabel/gate-1/classify/spam")).toBe(pooled);
  expect(requestTopicsOf(pooled, "edgelabel/pool/classify")).toBe(pooled.group);
  expect(modelInTopic(pooled.group!, "edgelabel/pool/classify/spam")).toBe("spam");
  for (const topic of ["edgelabel/pool/classifyx", "edgelabel/other/classify", "edgelabel/pool/label"])
    expect(requestTopicsOf(pooled, topic)).toBeUndefined();
  for (const topic of [
    "edgelabel/pool/label",
    "edgelabel/pool/label/spam",
    "edgelabel/pool/reply/a/1",
    "edgelabel/gate-1/reply/a",
  ])
    expect(answerTopicFault(topic, pooled, { allow: [], deny: [] })).toBeUndefined();
  for (const topic of ["edgelabel/pool/classify", "edgelabel/pool/reply", "edgelabel/pool/status", "edgelabel/pool"])
    expect(answerTopicFault(topic, pooled, open)).toBe("inside_root");
  expect(answerTopicFault("edgelabel/pool/reply/a/1", topics, open)).toBe("inside_root");
  expect(() => topicsOf("edgelabel", "gate-1", "gate-1")).toThrow("the group and the node are both called gate-1");
  expect(() => topicsOf("edgelabel", "gate-1", "a/b")).toThrow('the group name "a/b" cannot be part of a topic');
});

test("a request's topic may name its user, who is answered on topics of its own", () => {
  const pooled = topicsOf("edgelabel", "gate-1", "pool");
  for (const name of ["gate-1", "pool"]) {
    for (const topic of ["", "/spam"]) {
      const asked = requestTopicsOf(pooled, `edgelabel/${name}/from/phone/classify${topic}`)!;
      expect(asked).toEqual({
        classify: `edgelabel/${name}/from/phone/classify`,
        from: `edgelabel/${name}/from`,
        label: `edgelabel/${name}/reply/phone`,
        reply: `edgelabel/${name}/reply/phone`,
        user: "phone",
      });
      expect(modelInTopic(asked, `edgelabel/${name}/from/phone/classify${topic}`)).toBe(topic.slice(1));
      for (const [answer, fault] of [
        ["phone", undefined],
        ["phone/1", undefined],
        ["phoney", "not_the_users"],
        ["other/phone", "not_the_users"],
        ["", "not_the_users"],
      ] as const)
        expect([answer, userTopicFault(asked, `edgelabel/${name}/reply/${answer}`)]).toEqual([answer, fault]);
    }
    for (const topic of ["from/phone", "from/phone/status", "from//classify", "from/a/b/classify", "from/classify"])
      expect([topic, requestTopicsOf(pooled, `edgelabel/${name}/${topic}`)]).toEqual([topic, undefined]);
  }
  expect(userTopicFault(topics, "anywhere")).toBeUndefined();
  // No answer comes back as a request of a user.
  expect(answerTopicFault("edgelabel/gate-1/from/phone/classify", pooled, open)).toBe("inside_root");
  expect(
    requestFilters(topics).some((filter) => filterMatches(filter, "edgelabel/gate-1/from/phone/classify/spam")),
  ).toBe(true);
  for (const [name, isLevel] of [
    ["phone", true],
    ["Jürgen M.", true],
    ["a/b", false],
    ["+", false],
    ["a#", false],
    ["", false],
    ["a\n", false],
  ] as const)
    expect([name, isUserLevel(name)]).toEqual([name, isLevel]);
});

test("a host name becomes one level", () => {
  expect(slug("My Host.local")).toBe("my-host-local");
  expect(slug("--")).toBe("node");
  expect(slug("网关")).toBe("node");
  fc.assert(fc.property(fc.string({ unit: "binary" }), (name) => checkLevel("name", slug(name)) === slug(name)));
});

test("a model's name becomes one level", () => {
  expect(["spam-2.1", "My model", "垃圾邮件"].map(levelOf)).toEqual(["spam-2.1", "my-model", "model"]);
});

test.each(["a/b", "a+", "#", "", "$SYS", "a b", "x".repeat(65), "a\0"])("%j is no node name", (name) => {
  expect(() => topicsOf("edgelabel", name)).toThrow("cannot be part of a topic");
  expect(() => topicsOf(`${name}/`, "n")).toThrow("cannot be part of a topic");
});

test.each([
  ["#", "a/b", true],
  ["a/#", "a", true],
  ["a/#", "a/b/c", true],
  ["a/+", "a/b", true],
  ["a/+", "a/b/c", false],
  ["a/+", "a", false],
  ["+", "a", true],
  ["+/+", "/a", true],
  ["a", "a/b", false],
  ["a/b", "a", false],
  ["#", "$SYS/a", false],
  ["+/a", "$SYS/a", false],
  ["$SYS/#", "$SYS/a", true],
] as const)("filter %s, topic %s: %s", (filter, topic, matches) => {
  expect(filterMatches(filter, topic)).toBe(matches);
});

test.each([
  ["a/+", "+/b", true],
  ["a/#", "a", true],
  ["#", "a/b", true],
  ["a/+/c", "a/b/+", true],
  ["a/b", "a/b", true],
  ["a/+", "a", false],
  ["a/b", "a/c", false],
  ["a/+", "a/b/c", false],
  ["a", "a/b/#", false],
] as const)("filters %s and %s overlap: %s", (a, b, overlap) => {
  expect([filtersOverlap(a, b), filtersOverlap(b, a)]).toEqual([overlap, overlap]);
});

test.each([
  ["#", "a/+/#", true],
  ["a/#", "a", true],
  ["a/#", "a/+", true],
  ["a/+", "a/b", true],
  ["a/+", "a/+", true],
  ["a/+", "a/#", false],
  ["a/+", "#", false],
  ["a/b", "a/+", false],
  ["+", "#", false],
  ["#", "$SYS/#", false],
  ["a/#", "a+", false],
] as const)("filter %s covers %s: %s", (wide, narrow, covers) => {
  expect(filterCovers(wide, narrow)).toBe(covers);
});

test("what filters say of each other is true of every topic", () => {
  const filter = fc
    .array(fc.constantFrom("a", "b", "+"), { minLength: 1, maxLength: 4 })
    .chain((levels) => fc.constantFrom(levels.join("/"), `${levels.join("/")}/#`));
  const topic = fc
    .array(fc.constantFrom("a", "b", "c"), { minLength: 1, maxLength: 5 })
    .map((levels) => levels.join("/"));
  fc.assert(
    fc.property(filter, filter, topic, (a, b, name) => {
      const [matchesA, matchesB] = [filterMatches(a, name), filterMatches(b, name)];
      if (matchesA && matchesB) expect(filtersOverlap(a, b)).toBe(true);
      if (matchesB && filterCovers(a, b)) expect(matchesA).toBe(true);
    }),
    { numRuns: 5_000 },
  );
});

test("topic filters", () => {
  for (const filter of ["#", "a/#", "+/a", "a", "/"]) expect([filter, isTopicFilter(filter)]).toEqual([filter, true]);
  for (const filter of ["", "a#", "#/a", "a+/b", "a\0"])
    expect([filter, isTopicFilter(filter)]).toEqual([filter, false]);
});

describe("where an answer may go", () => {
  test.each([
    ["", "empty"],
    ["x".repeat(1025), "too_long"],
    ["é".repeat(513), "too_long"],
    ["a\0", "bad_character"],
    ["a\u009f", "bad_character"],
    ["a\ud800b", "bad_character"],
    ["a\ufffe", "bad_character"],
    ["a/#", "wildcard"],
    ["a/+/b", "wildcard"],
    ["$SYS/a", "reserved"],
    ["$share/g/a", "reserved"],
    ["/".repeat(64), "too_deep"],
    ["edgelabel", "inside_root"],
    ["edgelabel/gate-1/classify", "inside_root"],
    ["edgelabel/gate-1/classify/spam", "inside_root"],
    ["edgelabel/gate-2/label", "inside_root"],
    ["edgelabel/gate-1/cmd/load/1", "inside_root"],
    ["edgelabel/gate-1/labels", "inside_root"],
    ["edgelabel//label", "inside_root"],
    ["edgelabel/gate-1/label", undefined],
    ["edgelabel/gate-1/label/spam", undefined],
    ["edgelabel/gate-1/reply/7", undefined],
    ["answers/é", undefined],
    ["edgelabels/x", undefined],
    ["/", undefined],
  ] as const)("%j: %s", (topic, fault) => {
    expect(answerTopicFault(topic, topics, open)).toBe(fault);
  });

  test("the user's rules come after ours", () => {
    const rules = { allow: ["answers/#", "edgelabel/#"], deny: ["answers/secret/+"] };
    expect(answerTopicFault("answers/1", topics, rules)).toBeUndefined();
    expect(answerTopicFault("other/1", topics, rules)).toBe("not_allowed");
    expect(answerTopicFault("edgelabel/gate-1/label", topics, { allow: [], deny: [] })).toBeUndefined();
    expect(
      answerTopicFault("edgelabel/gate-1/reply/1", topics, { allow: [], deny: ["edgelabel/gate-1/reply/#"] }),
    ).toBe("denied");
    expect(answerTopicFault("answers/secret/1", topics, rules)).toBe("denied");
    expect(answerTopicFault("edgelabel/gate-1/classify", topics, rules)).toBe("inside_root");
  });

  test("no accepted topic can be a request, a command or a reserved one", () => {
    const level = fc.oneof(
      fc.constantFrom(
        "edgelabel",
        "gate-1",
        "gate-2",
        "classify",
        "cmd",
        "label",
        "reply",
        "status",
        "info",
        "$SYS",
        "#",
        "+",
        "",
        "a#",
        "\0",
      ),
      fc.string({ unit: "binary", maxLength: 4 }),
    );
    fc.assert(
      fc.property(fc.array(level, { minLength: 1, maxLength: 6 }), (levels) => {
        const topic = levels.join("/");
        if (answerTopicFault(topic, topics, open) !== undefined) return;
        expect(topic).not.toMatch(/[+#\0]|^\$|^edgelabel(?:\/(?!gate-1\/(?:label|reply))|$)/);
      }),
      { numRuns: 10_000 },
    );
  });
});
