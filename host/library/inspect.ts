// What is wrong with labelled texts, before they are trained on.
import { type DataReport, reportData } from "../data/report.ts";
import { createTrainer, DEFAULT_RECIPE } from "../training/recipe.ts";
import { type LabelledTexts, samplesOf } from "./samples.ts";

/**
 * Duplicates, conflicts, unusual lengths and doubts about labels, as `edgelabel data --json` prints them. Texts are alike if the
 * default recipe gives them the same tokens; a place is the number of a text, from 1, in the file "".
 */
export async function inspect(texts: LabelledTexts): Promise<DataReport> {
  const { tokenizer } = DEFAULT_RECIPE;
  const trainer = await createTrainer(tokenizer);
  const sources = [{ file: "", samples: await samplesOf(texts, "texts") }];
  return reportData(sources, null, (text) => trainer.tokens(text), tokenizer.sequenceLength);
}
