// `edgelabel calibrate`: a model and labelled texts that it was not trained on -> the same model
// with scores that mean what they say and, with --unknown, a rule for texts that fit none of its labels.
import { Command } from "commander";
import { calibrate } from "../library/update.ts";
import { renderCalibration } from "../training/calibration.ts";
import { Classifier } from "../model/classifier.ts";
import { requireWritable } from "../files/atomic.ts";
import { share, shareBelow1 } from "../values.ts";
import { addDatasetOptions, type DatasetFlags, parserOf, readSamples } from "./options.ts";
import { parseOutput, trimmed, writeModel } from "./output.ts";
import { readElb } from "./pack.ts";
import { kilobytes } from "../figures.ts";
import { print, printJson } from "./terminal.ts";

interface CalibrateFlags extends DatasetFlags {
  output: string;
  unknown?: number;
  levels?: number;
  json?: boolean;
}

export const UNKNOWN_HELP =
  'answer "?" to texts that fit none of the labels; at most this share of right answers is lost';

export function calibrateCommand(): Command {
  const command = new Command("calibrate")
    .argument("<model>", "model file (.wasm or .elb)")
    .argument("<data...>", "labelled texts that the model was not trained on")
    .requiredOption("-o, --output <file>", "model to write (.wasm or .elb)", parseOutput)
    .option("--unknown <share>", UNKNOWN_HELP, parserOf(shareBelow1))
    .option("--levels <score>", "of labels such as a/b/c, answer a/b or a where the score is lower", parserOf(share))
    .option("--json", "print one JSON object");
  return addDatasetOptions(command)
    .addHelpText(
      "after",
      `
Scores are scaled by the temperature that makes the true labels most likely; labels do not
change. With --unknown, answers with a low score, a small lead over the second label or many
unknown words become "?" (null in JSON, with "unknown": true). Which of the three are used is
chosen so that as many wrong answers as possible are rejected, and texts whose label the model
does not know, if the data has any. Without --unknown no answer is "?". train does the same with
its --valid texts. Of a model that gives several labels, the threshold for them is fitted instead.
With --levels, an answer whose score is lower becomes its nearest parent whose labels together
reach that score, or else the topmost; without it no answer is a parent.

Examples:
  edgelabel calibrate spam.wasm valid.tsv -o spam.wasm
  edgelabel calibrate intents.elb valid.tsv --unknown 0.05 -o intents.wasm
  edgelabel calibrate home.elb valid.tsv --levels 0.8 -o home.wasm`,
    )
    .action(async (path: string, data: string[], options: CalibrateFlags) => {
      await requireWritable(options.output);
      const original = await readElb(path);
      const { info } = await Classifier.fromBytes(original, path);
      const samples = await readSamples(data, options, info.multi_label);
      const { unknown, levels } = options;
      const { model, report } = await calibrate(original, samples, { unknown, levels, source: path });
      const bytes = await writeModel(options.output, await trimmed(options.output, model, info));
      await (options.json
        ? printJson({ file: options.output, bytes, ...report })
        : print(`${options.output}: ${kilobytes(bytes)}\n${renderCalibration(report)}`));
    });
}
