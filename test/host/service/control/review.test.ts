// The queue of texts to label: what gets in, what leaves, and in which order they are asked for.
import { afterEach, describe, expect, test } from "vitest";
import { mostTelling, Review } from "../../../../host/service/control/review.ts";

const HOUR = 3_600_000;
const open: Review[] = [];
afterEach(() => {
  for (const review of open.splice(0)) review.close();
});

function queue({
  texts = 20,
  hours = 24,
  random = () => 1,
}: Partial<{ texts: number; hours: number; random: () => number }> = {}) {
  // prettier-ignore
  const clock = { now: 1_000_000 };
  const review = new Review({ texts, hours }, () => clock.now, random);
  open.push(review);
  const offer = (text: string, score: number, label: string | null = "on") =>
    review.offer("lamps", text, { label, score, scores: {} });
  const texts_ = (count = 100) => review.next("lamps", count).map(({ text }) => text);
  return { clock, review, offer, texts: texts_ };
}

/** Words of letters only, since numbers make no difference. */
const word = (n: number): string => [...String(n)].map((digit) => "abcdefghij"[Number(digit)]).join("");

describe("what gets in", () => {
  test("unknown and uncertain texts do, and of the certain ones a few", () => {
    const { offer, review } = queue();
    offer("is it raining", 0.3, null);
    offer("lamp perhaps", 0.6);
    for (let i = 0; i < 100; i++) offer(`lamp ${word(i)}`, 0.95);
    expect(review.waiting).toBe(3);
    expect(review.next("lamps", 2)).toMatchObject([
      { text: "is it raining", label: null, why: "unknown", model: "lamps" },
      { text: "lamp perhaps", label: "on", score: 0.6, why: "uncertain" },
    ]);
  });

  test("a parent that is answered is as doubtful as the best of its labels", () => {
    const { review } = queue();
    review.offer("home", "some light", { label: "light", score: 0.95, scores: { "light/on": 0.5 } });
    review.offer("home", "lamp on", { label: "light/on", score: 0.8, scores: { 1: 0.2, "light/on": 0.8 } });
    expect(review.next("home", 9)).toMatchObject([
      { text: "some light", label: "light", score: 0.95, doubt: 0.5, why: "uncertain" },
      { text: "lamp on", doubt: expect.closeTo(0.2) as number },
    ]);
  });

  test("a certain text does by chance, the same for the first and the thousandth", () => {
    let drawn = 0;
    const { offer, review } = queue({ random: () => (drawn++ === 50 ? 0.001 : 0.99) });
    for (let i = 0; i < 1000; i++) offer(`lamp ${word(i)}`, 0.99);
    // The first two find room for two; of the others, the one whose number was drawn.
    expect(review.next("lamps", 9).map(({ text, why }) => [text, why])).toEqual([
      [`lamp ${word(1)}`, "chance"],
      [`lamp ${word(50)}`, "chance"],
    ]);
  });

  test("every tenth text that is asked for was taken by chance", () => {
    const { offer, review } = queue({ texts: 200 });
    offer("lamp on", 0.99);
    for (let i = 0; i < 30; i++) offer(`${word(i)} ${word(i + 100)}`, 0.5);
    const asked = Array.from({ length: 12 }, () => {
      const [next] = review.next("lamps", 3);
      review.judge(next!.id, "on");
      return next!.why;
    });
    expect(asked.flatMap((why, i) => (why === "chance" ? [i] : []))).toEqual([9]);
  });

  test("texts that differ in case, numbers and punctuation are asked for once, also after they were labelled", () => {
    const { offer, review, texts } = queue();
    for (const text of ["Lamp 12, maybe?", "lamp 7 maybe", "LAMP 0 MAYBE!", "lamp 3 maybe not"]) offer(text, 0.5);
    expect(texts().sort()).toEqual(["Lamp 12, maybe?", "lamp 3 maybe not"]);
    for (const { id } of review.next("lamps", 9)) review.judge(id, "on");
    offer("lamp 99 maybe", 0.5);
    expect(texts()).toEqual([]);
    review.offer("other", "lamp 99 maybe", { label: "x", score: 0.5, scores: {} });
    expect(review.next("other", 9)).toHaveLength(1);
  });

  test("bytes are read as text; what no one can label stays out", () => {
    const { review, offer, texts } = queue();
    review.offer("lamps", Buffer.from("lámpara quizás"), { label: "on", score: 0.5, scores: {} });
    offer("", 0.5);
    offer("x".repeat(4_097), 0.5);
    expect(texts()).toEqual(["lámpara quizás"]);
  });
});

describe("what leaves", () => {
  test("under a flood the least doubtful do, and the queue stays as long as it may", () => {
    const { offer, review, texts } = queue({ texts: 20 });
    for (let i = 0; i < 5_000; i++) offer(`flood ${word(i)}`, 0.5 + (i % 100) / 250);
    for (let i = 0; i < 5; i++) offer(`rare ${word(i)}`, 0.2, null);
    for (let i = 5_000; i < 10_000; i++) offer(`flood ${word(i)}`, 0.5 + (i % 100) / 250);
    expect(review.waiting).toBe(18);
    expect(texts().filter((text) => text.startsWith("rare"))).toHaveLength(5);
    expect(review.next("lamps", 18).every(({ score }) => score <= 0.5)).toBe(true);
  });

  test("in the shortest queue, all but the most doubtful one", () => {
    const { offer, texts } = queue({ texts: 1 });
    for (const score of [0.5, 0.3, 0.4]) offer(`text ${word(10 * score)}`, score);
    expect(texts()).toEqual([`text ${word(3)}`]);
  });

  test("a text whose time is over, whether it waits or was labelled", () => {
    const { offer, review, clock, texts } = queue({ hours: 2 });
    offer("first text", 0.5);
    offer("second thing", 0.5);
    review.judge(review.next("lamps", 1)[0]!.id, "off");
    clock.now += HOUR;
    offer("late arrival", 0.5);
    clock.now += HOUR;
    expect([review.waiting, review.corrections("lamps"), texts()]).toEqual([1, [], ["late arrival"]]);
  });

  test("it does so by itself, without being asked", async () => {
    const { review, offer } = queue({ hours: 0 });
    offer("gone at once", 0.5);
    expect(review.waiting).toBe(0);
  });
});

describe("labels", () => {
  test("wait until they are learnt, and can be taken back in turn", () => {
    const { offer, review, texts } = queue();
    for (const text of ["one thing", "another matter", "third case"]) offer(text, 0.5);
    const [first, second, third] = review.next("lamps", 3);
    review.judge(first!.id, "on");
    review.judge(second!.id);
    review.judge(third!.id, "a new one");
    expect(review.corrections("lamps")).toEqual([
      { text: first!.text, label: "on" },
      { text: third!.text, label: "a new one" },
    ]);
    review.undo("lamps");
    review.undo("lamps");
    expect(texts().sort()).toEqual([second!.text, third!.text].sort());
    review.undo("lamps");
    expect(() => review.undo("lamps")).toThrow("there is nothing to undo");
    expect(review.corrections("lamps")).toEqual([]);
  });

  test("while they are kept, none can be taken back or learnt twice, and new ones wait", async () => {
    const { offer, review, texts } = queue();
    for (const text of ["one thing", "another matter", "third case"]) offer(text, 0.5);
    const [first, second, third] = review.next("lamps", 3);
    for (const { id } of [first!, second!]) review.judge(id, "on");
    const kept: string[] = [];
    const learning = review.learn("lamps", async (corrections) => {
      await Promise.resolve();
      kept.push(...corrections.map(({ text }) => text));
    });
    await expect(review.learn("lamps", async () => {})).rejects.toThrow("no labels wait to be learnt");
    expect(() => review.undo("lamps")).toThrow("there is nothing to undo");
    review.judge(third!.id, "off");
    await learning;
    expect(kept).toEqual([first!.text, second!.text]);
    expect(review.corrections("lamps")).toEqual([{ text: third!.text, label: "off" }]);
    expect([review.corrections("other"), texts()]).toEqual([[], []]);
  });

  test("wait again, in their order, when they could not be kept", async () => {
    const { offer, review } = queue();
    for (const text of ["one thing", "another matter"]) offer(text, 0.5);
    const [first, second] = review.next("lamps", 2);
    review.judge(first!.id, "on");
    const learning = review.learn("lamps", () => Promise.reject(new Error("the disk is full")));
    review.judge(second!.id, "off");
    await expect(learning).rejects.toThrow("the disk is full");
    expect(review.corrections("lamps").map(({ label }) => label)).toEqual(["on", "off"]);
  });

  test("are taken back for their own model only", () => {
    const { offer, review } = queue();
    offer("one thing", 0.5);
    review.offer("doors", "another matter", { label: "open", score: 0.5, scores: {} });
    review.judge(review.next("lamps", 1)[0]!.id, "on");
    review.judge(review.next("doors", 1)[0]!.id, "shut");
    review.undo("lamps");
    expect([review.corrections("lamps"), review.corrections("doors")]).toMatchObject([[], [{ label: "shut" }]]);
  });

  test("are limited in number; skips make room for them", () => {
    const { offer, review } = queue({ texts: 100 });
    const judgeNext = (label?: string): void => {
      offer(`text ${word(count++)}`, 0.5);
      review.judge(review.next("lamps", 1)[0]!.id, label);
    };
    let count = 0;
    for (let i = 0; i < 1_001; i++) judgeNext();
    for (let i = 0; i < 1_000; i++) judgeNext("on");
    expect(review.corrections("lamps")).toHaveLength(1_000);
    expect(() => judgeNext("on")).toThrow("1000 labels wait to be learnt");
    expect([review.waiting, review.corrections("lamps").length]).toEqual([1, 1_000]);
  });

  test("of a text that has gone, or that no label can be: says so", () => {
    const { offer, review } = queue();
    offer("one thing", 0.5);
    expect(() => review.judge(77, "on")).toThrow("this text no longer waits");
    expect(() => review.judge(review.next("lamps", 1)[0]!.id, "")).toThrow("label");
    expect(review.waiting).toBe(1);
  });
});

test("the next text is the most doubtful one that is unlike the last ones", () => {
  const of = (text: string, doubt: number) => ({ text, doubt });
  const texts = [of("play some jazz music", 0.5), of("play some rock music", 0.5), of("turn it down", 0.4), of("what", 1.3)]; // prettier-ignore
  expect(mostTelling(texts, [], 4).map(({ text }) => text)).toEqual([
    "what",
    "play some jazz music",
    "turn it down",
    "play some rock music",
  ]);
  expect(mostTelling(texts, ["what", "play some soul music"], 1)[0]!.text).toBe("turn it down");
});
