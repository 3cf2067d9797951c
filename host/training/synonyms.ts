// Synonyms from a user's file: each line is a group of words, separated by commas or tabs,
// that may stand for one another in training; empty lines and lines that begin with # are
// skipped. Refuses a line with fewer than two words, and words that are not a single token.
import { EdgelabelError } from "../errors.ts";
import type { Trainer } from "./trainer.ts";

export interface SynonymGroup {
  words: string[];
  line: number;
}

export function parseSynonyms(content: string, source: string): SynonymGroup[] {
  const groups: SynonymGroup[] = [];
  content.split(/\r?\n/).forEach((text, index) => {
    if (text.trim() === "" || text.startsWith("#")) return;
    const words = [
      ...new Set(
        text
          .split(/[,\t]/)
          .map((word) => word.trim())
          .filter((word) => word !== ""),
      ),
    ];
    if (words.length < 2)
      throw new EdgelabelError(
        `${source}: line ${index + 1}: a group needs two words or more, with commas between them`,
      );
    groups.push({ words, line: index + 1 });
  });
  if (groups.length === 0)
    throw new EdgelabelError(`${source}: holds no synonyms; each line is a group of words with commas between them`);
  return groups;
}

/** Hands the groups to a trainer whose model is described; `source` names them in errors. */
export function addSynonyms(trainer: Trainer, groups: readonly SynonymGroup[], source: string): void {
  for (const { words, line } of groups) {
    words.forEach((word, i) => {
      if (!trainer.addSynonym(word, i === 0))
        throw new EdgelabelError(
          `${source}: line ${line}: ${JSON.stringify(word)} is not one word to this model's tokenizer`,
        );
    });
  }
}
