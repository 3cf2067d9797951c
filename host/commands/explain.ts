// `edgelabel explain`: texts, or lines of stdin -> how much each of their tokens adds to the
// label's score: as lines (in a terminal also as a heat map), as one JSON object a text, or as
// a page of HTML.
import { Command, Option } from "commander";
import { TEXT_CAPACITY } from "../../assembly/abi.ts";
import type { Classifier } from "../model/classifier.ts";
import { openModel } from "../model/file.ts";
import { EdgelabelError } from "../errors.ts";
import type { Explanation, Method } from "../model/explanation.ts";
import { requireWritable, writeWhole } from "../files/atomic.ts";
import { type ExplainedText, renderHtml, renderText } from "../report/heat-map.ts";
import { Trainer } from "../training/trainer.ts";
import { wholeNumber } from "./options.ts";
import { readElb } from "./pack.ts";
import { linesOf } from "./lines.ts";
import { noteFileName, print, printJson } from "./terminal.ts";

interface ExplainOptions {
  label?: string;
  method: Method;
  steps?: number;
  html?: string;
  json?: boolean;
}

/** Points at which gradients are computed by default. */
const STEPS = 256;

export function explainCommand(): Command {
  return new Command("explain")
    .argument("<model>", "model file (.wasm or .elb)")
    .argument("[texts...]", "texts; without any, one a line from standard input")
    .option("--label <name>", "explain the score of this label (default: the best one)")
    .addOption(
      new Option("--method <name>", "occlusion hides words; gradients are integrated gradients, and need f32 weights")
        .choices(["occlusion", "gradients"])
        .default("occlusion"),
    )
    .option("--steps <n>", `points at which gradients are computed (default: ${STEPS})`, wholeNumber(1, 100_000))
    .option("--html <file>", "write a heat map as a page")
    .option("--json", 'print {"label","score","base","method","sum","error","tokens"} a text')
    .addHelpText(
      "after",
      `
A positive share speaks for the label, a negative one against it. The shares add up to
score - base, except for the error shown; with gradients, more --steps make it smaller.
The base is the score with all tokens hidden or, for gradients, with all their vectors 0.
In long texts, several tokens share one figure. A text that predict answers with "?" is
explained for its best label.

Examples:
  edgelabel explain spam.wasm 'you won a prize'
  edgelabel explain spam.elb --method gradients --html prize.html 'you won a prize'`,
    )
    .action(async (path: string, texts: string[], options: ExplainOptions, command: Command) => {
      if (options.steps !== undefined && options.method !== "gradients")
        command.error("error: --steps needs --method gradients");
      if (options.html !== undefined) await requireWritable(options.html);
      const classifier = await openModel(path);
      const explain =
        options.method === "gradients"
          ? await byGradients(path, classifier, options)
          : (text: Uint8Array) => classifier.explain(text, options.label);
      const explained: ExplainedText[] = [];
      const inColour = process.stdout.isTTY && process.stdout.hasColors(256);
      const answer = async (line: Uint8Array): Promise<void> => {
        const text = line.subarray(0, TEXT_CAPACITY);
        const explanation = explain(text);
        if (options.html !== undefined) explained.push({ text, explanation });
        if (options.json) await printJson(explanation);
        // It is printable already; print() would escape its colours.
        else await print(Buffer.from(renderText({ text, explanation }, inColour)));
      };
      await noteFileName(texts, "explain MODEL");
      for (const text of texts) await answer(Buffer.from(text));
      if (texts.length === 0)
        for await (const lines of linesOf(process.stdin)) for (const line of lines) await answer(line);
      if (options.html !== undefined)
        await writeWhole(options.html, Buffer.from(renderHtml(classifier.name, explained)));
    });
}

async function byGradients(
  path: string,
  classifier: Classifier,
  { label, steps = STEPS }: ExplainOptions,
): Promise<(text: Uint8Array) => Explanation> {
  if (classifier.info.form !== "f32") {
    throw new EdgelabelError(
      `${path}: gradients need f32 weights, and these are ${classifier.info.form}; use the .elb that it was made from, or --method occlusion`,
    );
  }
  const index = label === undefined ? classifier.labels.length : classifier.indexOf(label);
  const trainer = await Trainer.open(await readElb(path), path);
  trainer.prepareGradients();
  return (text) => trainer.integrateGradients(text, classifier.labels, index, steps);
}
