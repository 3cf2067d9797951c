// The page of a service: its figures, and in a real Chromium what it shows and lets a user do, with hostile names and texts,
// with users whose rights are missing in turn, and in a page of another site.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import axe from "axe-core";
import type { Browser, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { startBroker } from "../../host/service/broker/broker.ts";
import type { Learner } from "../../host/service/control/learning.ts";
import type { Model } from "../../host/service/answer/predictor.ts";
import { Review } from "../../host/service/control/review.ts";
import { startHttp } from "../../host/service/http/http.ts";
import { hashPassword, type UserSettings } from "../../host/service/users.ts";
import type { Correction } from "../../host/data/journal.ts";
import { EdgelabelError } from "../../host/errors.ts";
import { figuresOf, parseMetrics, total } from "../../web/console/figures.ts";
import { outcomeOf, type Status } from "../../web/console/outcome.ts";
import { findChromium, launchChromium } from "../support/chromium.ts";
import { fakeModel, fakeService, fakeSeveral, loginOf, topics } from "../support/fake.ts";
import { until } from "../support/wait.ts";

describe("figures", () => {
  const metrics = (...lines: string[]) => parseMetrics(`# HELP x y\n${lines.join("\n")}\n`);
  const buckets = (counts: [string, number][]) =>
    counts.map(([le, count]) => `edgelabel_answer_seconds_bucket{le="${le}",transport="http"} ${count}`);

  test("of what happened between two readings", () => {
    const before = metrics(
      'edgelabel_texts_total{model="a b"} 10',
      'edgelabel_texts_total{model="c"} 5',
      'edgelabel_errors_total{code="busy"} 1',
      ...buckets([
        ["0.001", 10],
        ["0.01", 10],
        ["+Inf", 10],
      ]),
    );
    const now = metrics(
      'edgelabel_texts_total{model="a b"} 40',
      'edgelabel_texts_total{model="c"} 15',
      'edgelabel_errors_total{code="busy"} 3',
      'edgelabel_unknown_total{model="c"} 4',
      'edgelabel_ignored_total{reason="x"} 2',
      ...buckets([
        ["0.001", 15],
        ["0.01", 19],
        ["+Inf", 20],
      ]),
    );
    expect(total(now, "edgelabel_texts_total")).toBe(55);
    expect(figuresOf({ at: 0, metrics: before }, { at: 2000, metrics: now })).toEqual({
      ...{ at: 2000, textsPerSecond: 20, errorsPerSecond: 1, ignoredPerSecond: 1 },
      // Half of ten answers took at most 1 ms; the slowest took longer than the last bound.
      ...{ median: 1, p95: 10, unknown: 0.1 },
    });
  });

  test("of a service that did nothing, or was restarted", () => {
    const busy = { at: 0, metrics: metrics('edgelabel_texts_total{model="a"} 10', ...buckets([["+Inf", 10]])) };
    const fresh = { at: 1000, metrics: metrics('edgelabel_texts_total{model="a"} 1', ...buckets([["+Inf", 1]])) };
    const nothing = {
      textsPerSecond: 0,
      errorsPerSecond: 0,
      ignoredPerSecond: 0,
      median: undefined,
      p95: undefined,
      unknown: undefined,
    };
    expect(figuresOf(busy, fresh)).toEqual({ at: 1000, ...nothing });
    expect(figuresOf(fresh, { ...fresh, at: 2000 })).toEqual({ at: 2000, ...nothing });
  });
});

test.each<[string, Omit<Status, "id">, string]>([
  ["an evaluation", { verb: "evaluate", status: "successful", n: 96, accuracy: 0.729 }, "72.9 % of 96 texts right"],
  [
    "an evaluation of several labels",
    { verb: "evaluate", status: "successful", n: 96, accuracy: 0.729, micro_f1: 0.85714 },
    "micro F1 0.857; 72.9 % of 96 texts have exactly their labels",
  ],
  [
    "a failure",
    { verb: "learn", status: "failed", reason: "the old model stays: it got worse" },
    "failed: the old model stays: it got worse",
  ],
  ["corrections that are kept", { verb: "learn", status: "executing", kept: 2 }, "runs, with 2 corrections"],
  ["a run", { verb: "rollback", status: "executing" }, "runs"],
  ["a version", { verb: "activate", status: "successful", version: "2" }, "done; version 2 answers"],
  ["an undo", { verb: "learn", status: "successful", restored: "1" }, "done; the version before is back"],
  ["nothing learnt", { verb: "learn", status: "successful", after: null }, "done; nothing was left to learn"],
  [
    "a verdict",
    {
      verb: "learn",
      status: "successful",
      version: "2",
      corrections: 3,
      before: { corrected: 1, accuracy: 0.9 },
      after: { corrected: 3, accuracy: 0.91 },
    },
    "done; version 2 answers. Hold-out 90.0 % → 91.0 %, corrections right 1 → 3 of 3",
  ],
])("the outcome of %s in words", (_, status, words) => {
  expect(outcomeOf({ id: "1", ...status } as Status)).toBe(words);
});

const PASSWORD = "a long password";
const HOSTILE = "<img src=x onerror=alert(1)>";
const executablePath = findChromium();

describe.skipIf(!executablePath)("in Chromium", () => {
  let browser: Browser;
  const ends: (() => unknown)[] = [];
  const problems: string[] = [];
  beforeAll(async () => {
    browser = await launchChromium(executablePath!);
  });
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
    problems.length = 0;
  });
  afterAll(() => browser?.close());

  async function start(users?: Record<string, Omit<UserSettings, "password">>, served?: Model) {
    const broker = await startBroker({ port: 0 });
    ends.push(() => broker.close());
    const model = {
      ...fakeModel(HOSTILE),
      labels: ["ham", "spam", HOSTILE],
      classify: (text: string | Uint8Array) => ({
        label: HOSTILE,
        score: 0.6,
        scores: { [HOSTILE]: 0.6, ham: 0.3, spam: Buffer.from(text).length / 1e6 },
      }),
    };
    const models = new Map([["spam", served ?? model]]);
    const service = fakeService({ access: broker.access, models, commands: true });
    ends.push(() => service.stop());
    const review = new Review({ texts: 50, hours: 1 });
    ends.push(() => review.close());
    service.predictor.reviewer = (...given) => review.offer(...given);
    const kept: Correction[] = [];
    const learner = {
      takesNewLabels: true,
      keep: async (given: readonly Correction[]) => void kept.push(...given),
    } as unknown as Learner;
    const given: unknown[] = [];
    for (const verb of ["learn", "activate", "rollback", "evaluate"])
      service.commands!.add(verb, async ({ args }) => {
        given.push([verb, args]);
        if (verb === "rollback") throw new EdgelabelError(`there is no version before ${HOSTILE}`);
        return { model: "spam", n: 10, accuracy: 0.5 };
      });
    await service.start();
    const hash = await hashPassword(PASSWORD);
    const login = users && loginOf(users, hash);
    const http = await startHttp(service, {
      ...{ host: "127.0.0.1", port: 0, bodyBytes: 10_000, textsPerRequest: 100, login },
      console: { learners: new Map([["spam", learner]]), review, isOpen: users === undefined },
    });
    ends.push(() => http.close());
    return { service, http, kept, given };
  }

  async function opened(url: string, username?: string, options = {}): Promise<Page> {
    const context = await browser.newContext({
      ...(username === undefined ? {} : { httpCredentials: { username, password: PASSWORD } }),
      ...options,
    });
    ends.push(() => context.close());
    const page = await context.newPage();
    page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
    page.on("pageerror", (error) => problems.push(String(error)));
    page.on("dialog", (dialog) => problems.push(dialog.message()));
    await page.goto(url);
    return page;
  }

  const predict = (url: string, text: string) =>
    fetch(`${url}/predict`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ text }),
    });

  test("shows what is served, answers, takes labels by keys, gives commands; names and texts are text", async () => {
    const { http, kept, given } = await start();
    for (const text of [`${HOSTILE} one`, "quite another thing", "something else again"]) await predict(http.url, text);
    const page = await opened(http.url);
    await page.waitForSelector("#charts svg");
    expect(await page.textContent("#state")).toBe("ready");
    expect(await page.textContent("#models tbody")).toContain(`spam${HOSTILE}3: ham, spam, ${HOSTILE}`);
    expect(await page.locator("#charts svg").count()).toBe(4);
    expect(await page.locator("#charts dd").allTextContents()).toEqual([
      "connected",
      "3",
      "0",
      expect.stringMatching(/ MB$/),
    ]);

    await page.fill("#text", "win");
    await page.waitForSelector("#try p.best");
    expect(await page.textContent("#try .best strong")).toBe(HOSTILE);
    expect(await page.locator("#try .others bdi").allTextContents()).toEqual(["ham", "spam"]);
    const topic = page.locator("#ways div", { hasText: /^Topic of requests/ });
    expect(await topic.locator("code").textContent()).toBe(topics.classify);

    // Three texts wait, and what was typed.
    await until(async () => (await page.textContent(".label-box"))!.includes("waiting"));
    const labelled: [string, string][] = [];
    await page.focus(".label-box");
    for (const [key, label] of [
      ["1", "ham"],
      ["3", HOSTILE],
    ] as const) {
      const text = (await page.textContent(".label-box .quoted"))!;
      labelled.push([text, label]);
      await page.keyboard.press(key);
      await until(async () => (await page.textContent(".label-box"))!.includes(`${labelled.length} label`));
      expect(await page.textContent(".label-box .quoted")).not.toBe(text);
    }
    await page.keyboard.press("u");
    await until(async () => (await page.textContent(".label-box"))!.includes("1 label given"));
    expect(await page.textContent(".label-box .quoted")).toBe(labelled[1]![0]);
    await page.keyboard.press("s");
    await until(async () => (await page.textContent(".label-box .quoted")) !== labelled[1]![0]);
    await page.fill("#new-label", "brand new 12");
    const [another] = [(await page.textContent(".label-box .quoted"))!];
    await page.press("#new-label", "Enter");
    await until(async () => (await page.textContent(".label-box"))!.includes("2 labels given"));
    const [file] = await Promise.all([page.waitForEvent("download"), page.click("text=Export the labels")]);
    expect(file.suggestedFilename()).toBe("spam.corrections.jsonl");
    await page.click("text=Learn 2 labels");
    await until(() => kept.length === 2);
    expect(kept.map(({ text, label }) => [text, label])).toEqual([labelled[0], [another, "brand new 12"]]);

    await page.click("text=Evaluate");
    await until(async () => (await page.textContent("#statuses"))!.includes(`Evaluate spam: 50.0 % of 10 texts right`));
    await page.click("text=Roll back");
    await page.click("text=No");
    await page.click("text=Roll back");
    await page.click("text=Yes");
    await until(async () => (await page.textContent("#statuses"))!.includes("failed: there is no version before"));
    expect(given).toEqual([
      ["learn", { model: "spam" }],
      ["evaluate", { model: "spam" }],
      ["rollback", { name: "spam" }],
    ]);
    expect(await page.locator("img, iframe").count()).toBe(0);
    expect(problems).toEqual([]);
  });

  test("shows all labels of a text that has several, and takes several for one", async () => {
    const { http, kept } = await start(undefined, fakeSeveral());
    await predict(http.url, "win now");
    const page = await opened(http.url);
    await page.waitForSelector("#charts svg");
    expect(await page.textContent("#models tbody")).toContain("3, several a text: fraud, spam, urgent");
    await page.fill("#text", "win now");
    await page.waitForSelector("#try .given");
    expect(await page.locator("#try .given li").allTextContents()).toEqual(["spam87.5 %", "urgent75.0 %"]);
    await page.click("#try .given >> text=urgent");
    await until(async () => (await page.textContent("#try .legend"))!.includes("for urgent"));

    const box = page.locator(".label-box");
    expect(await box.textContent()).toContain("Its labels: spam 87.5 %, urgent 75.0 %.");
    const pressed = () => box.locator("[aria-pressed=true] bdi").allTextContents();
    expect(await pressed()).toEqual(["spam", "urgent"]);
    await box.focus();
    // Fraud instead of spam, and a label that the model does not know.
    for (const key of ["1", "2"]) await page.keyboard.press(key);
    await page.fill("#new-label", "brand new");
    await page.press("#new-label", "Enter");
    expect(await pressed()).toEqual(["fraud", "urgent", "brand new"]);
    await box.focus();
    await page.keyboard.press("Enter");
    await until(async () => (await box.textContent())!.includes("1 text labelled"));
    await page.click("text=Learn 1 text");
    await until(() => kept.length === 1);
    expect(kept[0]).toEqual({ text: "win now", label: "brand new\nfraud\nurgent", labels: ["brand new", "fraud", "urgent"] }); // prettier-ignore
    expect(problems).toEqual([]);
  });

  test("with users, each right missing in turn", async () => {
    const [read, ask] = [[topics.info, topics.metrics], [`${topics.classify}/#`]];
    const command = `${topics.root}/${topics.node}/cmd`;
    const { http } = await start({
      all: { subscribe: read, publish: [...ask, `${command}/#`] },
      figureless: { subscribe: [topics.info], publish: [...ask, `${command}/#`] },
      mute: { subscribe: read, publish: [`${command}/#`] },
      reader: { subscribe: read, publish: ask },
      stranger: { subscribe: [], publish: ask },
    });
    const seen = async (user: string) => {
      const page = await opened(http.url, user);
      await page.waitForSelector("#text:enabled");
      await page.fill("#text", "win");
      await page.waitForSelector("#try p.best, #try .alert");
      await page.waitForSelector("#charts svg, #charts .hint");
      return {
        answers: (await page.locator("#try p.best").count()) === 1,
        figures: (await page.locator("#charts svg").count()) === 4,
        commands: await page.isVisible("#given"),
        review: await page.isVisible("#review"),
      };
    };
    const all = { answers: true, figures: true, commands: true, review: true };
    expect(await seen("all")).toEqual(all);
    expect(await seen("figureless")).toEqual({ ...all, figures: false });
    expect(await seen("mute")).toEqual({ ...all, answers: false });
    expect(await seen("reader")).toEqual({ ...all, commands: false, review: false });
    const response = await fetch(http.url, { headers: { authorization: `Basic ${btoa(`stranger:${PASSWORD}`)}` } });
    expect(response.status).toBe(403);
  });

  test("a page of another site can neither frame it nor give commands by it", async () => {
    const { http, given, service } = await start();
    const other = createServer((_, response) => {
      response.setHeader("content-type", "text/html");
      response.end("<!doctype html><title>another site</title>");
    });
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    ends.push(() => other.close());
    const page = await opened(`http://127.0.0.1:${(other.address() as AddressInfo).port}/`);
    const before = total(parseMetrics(await service.metrics.text()), "edgelabel_texts_total");
    const framed = await page.evaluate(async (url) => {
      const frame = document.createElement("iframe");
      frame.src = url;
      document.body.append(frame);
      await new Promise((resolve) => (frame.onload = resolve));
      // A refused frame has an origin of its own, and no page of the service's.
      for (const [path, body] of [
        ["commands/evaluate", "{}"],
        ["predict", '{"text": "win"}'],
      ] as const)
        for (const type of ["application/json", "text/plain"])
          await fetch(`${url}/${path}`, {
            method: "POST",
            mode: "no-cors",
            credentials: "include",
            body,
            headers: { "Content-Type": type },
          }).catch(() => {});
      const form = document.createElement("form");
      form.method = "post";
      form.action = `${url}/commands/evaluate`;
      document.body.append(form);
      form.submit();
      return true;
    }, http.url);
    expect(framed).toBe(true);
    expect(page.frames().filter((frame) => frame.url().startsWith(http.url)).length).toBe(0);
    // A sentinel behind them.
    await predict(http.url, "sentinel");
    expect(total(parseMetrics(await service.metrics.text()), "edgelabel_texts_total")).toBe(before + 1);
    expect(given).toEqual([]);
    expect(problems.join("\n")).toMatch(/frame-ancestors|X-Frame-Options|refused/i);
  });

  test("axe finds no violation, and nothing is wider than the screen", async () => {
    const { http } = await start();
    await predict(http.url, "a text to label");
    for (const colorScheme of ["light", "dark"] as const)
      for (const width of [1100, 360]) {
        const page = await opened(http.url, undefined, { colorScheme, viewport: { width, height: 800 } });
        await page.waitForSelector("#charts svg");
        await page.fill("#text", "win");
        await page.waitForSelector("#try p.best");
        await page.waitForSelector(".label-box .quoted");
        await page.click("text=Evaluate");
        await page.waitForSelector("#statuses li");
        await page.evaluate(axe.source);
        const { violations } = (await page.evaluate("axe.run()")) as axe.AxeResults;
        expect(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)])).toEqual([]);
        expect(await page.evaluate("document.documentElement.scrollWidth")).toBe(width);
      }
  });
});
