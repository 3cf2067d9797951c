// Labelled texts from files and from standard input.
import { readWhole } from "../files/read.ts";
import { type DatasetOptions, MOST, parseDataset, type Sample } from "./dataset.ts";

/** Reads the files in order, as one data set; "-" is standard input. */
export async function readDataset(paths: readonly string[], options: DatasetOptions = {}): Promise<Sample[]> {
  const samples: Sample[] = [];
  for (const path of paths) {
    const bytes = path === "-" ? await readStdin() : await readWhole(path, { most: MOST });
    for (const sample of parseDataset(bytes, path === "-" ? "standard input" : path, options)) samples.push(sample);
  }
  return samples;
}

async function readStdin(): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of process.stdin) {
    chunks.push(chunk as Buffer);
    length += (chunk as Buffer).length;
    if (length > MOST.bytes) break;
  }
  return Buffer.concat(chunks);
}
