// Pretrained word vectors from a user's file, given to a trainer part by part, so that a file of any size takes no memory.
// What is in a file, and what is kept of it, is decided in assembly/train/vectors.ts; here bytes are cut at line ends.
import * as abi from "../../assembly/abi.ts";
import { EdgelabelError } from "../errors.ts";
import type { Trainer, VectorFigures } from "./trainer.ts";

/** A file of word vectors as text. */
export interface VectorFile {
  source: string;
  /** Its bytes, from the beginning each time. */
  read: () => AsyncIterable<Uint8Array>;
}

const LINE_FEED = 10;
const KINDS = "word vectors are read as text: fastText's and word2vec's .vec or GloVe's .txt, also in gzip";

/** Gives the vocabulary just made its vectors, of `width` numbers, and other words of the file until it has `most`; tells what was found. */
export async function addVectors(
  trainer: Trainer,
  { source, read }: VectorFile,
  { most, width }: { most: number; width: number },
  note: (note: string) => void,
): Promise<void> {
  const words = trainer.wordCount();
  try {
    trainer.startVectors(most);
    // The last line need not have an end.
    for await (const lines of wholeLines(read(), source)) trainer.readVectors(lines);
    trainer.finishVectors(width);
  } catch (error) {
    if (!(error instanceof EdgelabelError) || error.code !== "bad_vectors") throw error;
    throw new EdgelabelError(`${source}: ${defectOf(trainer.vectorFigures())}`, error.code);
  }
  const { found, added, repeated, repeatedLine } = trainer.vectorFigures();
  if (found === 0)
    throw new EdgelabelError(`${source}: has no vector for any word of the texts; is it of another language?`);
  note(
    `${source}: has vectors for ${found} of the ${words} words of the texts; ${added} other words are read by theirs`,
  );
  if (repeated > 0)
    note(
      `${source}: line ${repeatedLine}: a second vector for the same word, of ${repeated} such; the first ones count`,
    );
}

function defectOf({ defect, line, numbers, dimensions, declared }: VectorFigures): string {
  const at = `line ${line}: `;
  const they = `${numbers} number${numbers === 1 ? "" : "s"}`;
  switch (defect) {
    case abi.VECTORS_OTHER_WIDTH:
      return `${at}${they} behind the word, where the ${declared > 0 ? "header says" : "first line has"} ${dimensions}`;
    case abi.VECTORS_BAD_NUMBER:
      return `${at}holds something else than numbers behind the word`;
    case abi.VECTORS_BAD_HEADER:
      return `${at}says that vectors have ${they}; 1 to ${abi.MAX_DIMENSIONS} are read`;
    case abi.VECTORS_CUT_OFF:
      return `holds ${numbers} words, where its header says ${declared}; it is cut off, fetch it again`;
    default:
      return `${at}has no numbers behind a word; ${KINDS}`;
  }
}

/** The parts, cut at line ends and small enough for the trainer. */
async function* wholeLines(parts: AsyncIterable<Uint8Array>, source: string): AsyncGenerator<Uint8Array> {
  let kept = new Uint8Array();
  for await (const part of parts) {
    let rest = part;
    while (rest.length > 0) {
      const joined = new Uint8Array(Math.min(abi.TEXT_CAPACITY, kept.length + rest.length));
      joined.set(kept);
      const taken = joined.length - kept.length;
      joined.set(rest.subarray(0, taken), kept.length);
      rest = rest.subarray(taken);
      const end = joined.lastIndexOf(LINE_FEED) + 1;
      if (end > 0) yield joined.subarray(0, end);
      else if (joined.length === abi.TEXT_CAPACITY)
        throw new EdgelabelError(`${source}: has a line of more than 1 MiB; ${KINDS}`);
      kept = joined.slice(end);
    }
  }
  if (kept.length > 0) yield kept;
}
