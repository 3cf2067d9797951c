// Explanations as the host shows them: the bytes of tokens, JSON, heat maps of hostile texts,
// and the command's options.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Classifier } from "../../../host/model/classifier.ts";
import { openModel } from "../../../host/model/file.ts";
import type { Explanation } from "../../../host/model/explanation.ts";
import { renderHtml, renderText, segmentsOf } from "../../../host/report/heat-map.ts";
import { packModel } from "../../../host/model/pack.ts";
import { trainTiny } from "../../support/models.ts";
import { edgelabel, main } from "../../support/program.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-explain-"));
const at = (name: string): string => join(folder, name);
const TEXT = "Turn — the MÜSLI lamp on!";

beforeAll(async () => {
  const trainer = await trainTiny();
  writeFileSync(at("tiny.elb"), trainer.write("training"));
  writeFileSync(at("int8.elb"), trainer.write("int8"));
  writeFileSync(at("tiny.wasm"), await packModel(trainer.write("int8")));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe("a classifier explains", () => {
  test("the same from .elb and .wasm, tokens as they are written, and scores as it classifies", async () => {
    const [elb, wasm] = await Promise.all([openModel(at("int8.elb")), openModel(at("tiny.wasm"))]);
    const explanation = elb.explain(TEXT);
    expect(wasm.explain(TEXT)).toEqual(explanation);
    expect(explanation.tokens.map(({ token }) => token)).toEqual(["Turn", "the", "MÜSLI", "lamp", "on"]);
    const bytes = Buffer.from(TEXT);
    for (const { token, start, end } of explanation.tokens) expect(bytes.subarray(start, end).toString()).toBe(token);
    const { label, score } = elb.classify(TEXT);
    expect(explanation).toMatchObject({ label, method: "occlusion" });
    expect(explanation.score).toBeCloseTo(score, 6);
    expect(explanation.base).toBeCloseTo(elb.classify("", 0).scores[label!]!, 6);
    expect(Math.abs(explanation.error)).toBeLessThan(1e-6);
    expect(explanation.sum).toBeCloseTo(explanation.score - explanation.base, 6);
  });

  test("the label that is asked for, and no other than the model's", async () => {
    const classifier = await openModel(at("tiny.wasm"));
    expect(classifier.explain(TEXT, "music")).toMatchObject({ label: "music" });
    expect(() => classifier.explain(TEXT, "news")).toThrow(
      'tiny has no label "news"; its labels are "light", "music", "weather"',
    );
  });

  test("also of a deployable whose own engine cannot explain yet", async () => {
    const old = readFileSync(at("tiny.wasm"));
    old.write("explainPast", old.indexOf("explainLast"));
    expect((await Classifier.fromBytes(old, "old.wasm")).explain(TEXT)).toEqual(
      (await openModel(at("tiny.wasm"))).explain(TEXT),
    );
  });

  test("step by step, with other texts between", async () => {
    const classifier = await openModel(at("tiny.wasm"));
    const whole = classifier.explain(TEXT);
    const steps = classifier.explaining(TEXT);
    let passes = 0;
    let step = steps.next();
    for (; !step.done; step = steps.next()) {
      classifier.classify("will it rain");
      passes++;
    }
    expect(step.value).toEqual(whole);
    expect(passes).toBe(2 * 5 - 1);
  });
});

describe("heat maps", () => {
  const text = Buffer.from('a <b>"x"&\u001b[31m\u202e end');
  const token = (start: number, end: number, share: number) => ({
    token: text.subarray(start, end).toString(),
    start,
    end,
    share,
  });
  const explanation: Explanation = {
    label: "spam & <eggs>\u0007",
    score: 0.9,
    base: 0.25,
    method: "occlusion",
    sum: 0.65,
    error: 0,
    tokens: [token(0, 1, 0.8), token(2, 17, -0.4), token(18, 21, 0.25)],
  };

  test("a page holds no markup of the text, and no control character", () => {
    const html = renderHtml("<model>", [{ text, explanation }]);
    expect(html).not.toMatch(/<b>|<model>|<eggs>|[\u0007\u001b\u202e]/);
    expect(html).toContain("&lt;b&gt;&quot;x&quot;&amp;\ufffd[31m");
    expect(html).toContain("<bdi>spam &amp; &lt;eggs&gt;\ufffd</bdi> <span>0.9000</span>");
    // The strongest token has the full colour, the others their share of it; the other direction another colour.
    expect(
      Array.from(
        html.matchAll(
          /<span class="([^"]+)" style="--strength:([\d.]+)" title="([^"]+)">[^<]*<\/span>(?:<rt>([^<]+)<)?/g,
        ),
        ([, ...found]) => found,
      ),
    ).toEqual([
      ["word", "1.000", "+0.8000", "+0.80"],
      ["word against", "0.500", "-0.4000", "-0.40"],
      ["word", "0.313", "+0.2500", "+0.25"],
    ]);
    expect(html).toMatch(/prefers-color-scheme: dark/);
    expect(html).toContain("The strongest word of each text has the full colour");
    expect(html).toContain("the shares add up to +0.650000; score 0.900000 - base 0.250000, error 0.0e+0");
  });

  test("a share that counts little, rounds to nothing or belongs to a very long word is not printed", () => {
    const words = `strong weak tiny ${"x".repeat(25)}`;
    const tokens = [
      [0, 6, 0.5],
      [7, 11, 0.049],
      [12, 16, 0.05],
      [17, 42, 0.4],
    ].map(([start, end, share]) => ({ ...token(0, 1, share!), start: start!, end: end! }));
    const printed = segmentsOf({ text: Buffer.from(words), explanation: { ...explanation, tokens } })
      .filter(({ token }) => token)
      .map(({ text, token }) => [text, token!.printed]);
    expect(printed).toEqual([
      ["strong", "+0.50"],
      ["weak", undefined],
      ["tiny", "+0.05"],
      ["x".repeat(25), undefined],
    ]);
    const faint = { ...explanation, tokens: [token(0, 1, 0.004)] };
    expect(segmentsOf({ text, explanation: faint })[0]).toMatchObject({ token: { strength: 1, printed: undefined } });
  });

  test("plain text has the lines only", () => {
    expect(renderText({ text, explanation }, false)).toBe(
      [
        "spam & <eggs>\ufffd\t0.900000",
        "+0.800000\ta",
        '-0.400000\t<b>"x"&\ufffd[31m\ufffd',
        "+0.250000\tend",
        "occlusion: the shares add up to +0.650000; score 0.900000 - base 0.250000, error 0.0e+0",
        "",
      ].join("\n"),
    );
  });

  test("colours are the only control characters of a terminal's text", () => {
    const lines = renderText({ text, explanation }, true).split("\n");
    expect(lines[1]!.replace(/\u001b\[(?:38;5;16;48;5;\d+|0)m/g, "")).toBe('a <b>"x"&\ufffd[31m\ufffd end');
    expect(lines[1]).toContain("\u001b[38;5;16;48;5;208ma\u001b[0m");
    expect(lines[1]).toContain("\u001b[38;5;16;48;5;117m<b>");
  });

  test.each([
    ["for the label", 1, ["230", "223", "216", "215", "208"]],
    ["against it", -1, ["195", "153", "117", "75", "39"]],
  ])("shares %s have five shades in a terminal, orange or blue, from light to strong", (_, sign, shades) => {
    const tokens = [0.1, 0.3, 0.5, 0.7, 1].map((share, i) => token(i, i + 1, sign * share));
    const [, coloured] = renderText({ text, explanation: { ...explanation, tokens } }, true).split("\n");
    expect(Array.from(coloured!.matchAll(/48;5;(\d+)m/g), ([, shade]) => shade)).toEqual(shades);
  });
});

describe("edgelabel explain", () => {
  test("prints a line a token, and the same as JSON; no colours into a pipe", async () => {
    const { code, stdout, stderr } = await edgelabel(["explain", at("tiny.wasm"), TEXT]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^light\t0\.\d{6}\n(?:[+-]\d\.\d{6}\t\S+\n){5}occlusion: the shares add up to /);
    const json = JSON.parse((await edgelabel(["explain", at("tiny.wasm"), "--json", TEXT])).stdout) as Explanation;
    expect(json).toEqual((await openModel(at("tiny.wasm"))).explain(TEXT));
  });

  test("explains each line of standard input", async () => {
    const { stdout } = await edgelabel(
      ["explain", at("int8.elb"), "--json", "--label", "weather"],
      "play jazz\nwill it rain\n\n",
    );
    const lines = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Explanation);
    expect(lines.map(({ label, tokens }) => [label, tokens.length])).toEqual([
      ["weather", 2],
      ["weather", 3],
      ["weather", 0],
    ]);
  });

  test("integrates gradients where there are f32 weights, and says so where there are none", async () => {
    const explained = JSON.parse(
      (await edgelabel(["explain", at("tiny.elb"), "--json", "--method", "gradients", "--steps", "1000", TEXT])).stdout,
    ) as Explanation;
    const occluded = JSON.parse((await edgelabel(["explain", at("tiny.elb"), "--json", TEXT])).stdout) as Explanation;
    expect(explained).toMatchObject({ label: occluded.label, method: "gradients" });
    expect(explained.tokens.map(({ token }) => token)).toEqual(occluded.tokens.map(({ token }) => token));
    expect(explained.score).toBeCloseTo(occluded.score, 5);
    expect(Math.abs(explained.error)).toBeLessThan(2e-3);
    for (const file of ["int8.elb", "tiny.wasm"]) {
      const { code, stderr } = await edgelabel(["explain", at(file), "--method", "gradients", TEXT]);
      expect({ code, stderr: stderr.replace(folder, "") }).toEqual({
        code: 1,
        stderr: `edgelabel: /${file}: gradients need f32 weights, and these are int8; use the .elb that it was made from, or --method occlusion\n`,
      });
    }
  });

  test("writes a page", async () => {
    await edgelabel(["explain", at("tiny.wasm"), "--html", at("page.html"), TEXT, "<script>alert(1)</script>"]);
    const html = readFileSync(at("page.html"), "utf8");
    expect(html.match(/<h2>/g)).toHaveLength(2);
    expect(html).not.toContain("<script");
  });

  test.each([[["explain"]], [["explain", "m.elb", "--method", "shap"]], [["explain", "m.elb", "--steps", "10", "x"]]])(
    "ends with 2 on misuse: %j",
    async (args) => {
      expect(await edgelabel(args)).toMatchObject({ code: 2, stdout: "" });
    },
  );

  test("shows colours in a terminal, unless NO_COLOR is set", ({ skip }) => {
    const command = `'${process.execPath}' '${main}' explain '${at("tiny.wasm")}' 'play jazz'`;
    const run = (env: Record<string, string>): string =>
      execFileSync("script", ["-qec", command, "/dev/null"], {
        encoding: "utf8",
        env: { PATH: process.env["PATH"]!, TERM: "xterm-256color", ...env },
      });
    try {
      run({});
    } catch {
      skip("no script command makes a terminal here");
    }
    expect(run({})).toContain("\u001b[38;5;16;48;5;");
    expect(run({ NO_COLOR: "1" })).not.toContain("\u001b[");
  });
});
