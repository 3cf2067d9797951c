// `edgelabel keygen` and `edgelabel sign`: a key pair, and with it a model file -> an
// update that a registry accepts.
import { createPrivateKey } from "node:crypto";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { basename } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { readModelFile } from "../model/file.ts";
import { EdgelabelError } from "../errors.ts";
import { writeWhole } from "../files/atomic.ts";
import { readText } from "../files/read.ts";
import { keyId, newPrivateKey, readPrivateKey, trustLine } from "../registry/keys.ts";
import { encodeManifest, MAX_GOLDEN } from "../registry/manifest.ts";
import { describeModel } from "../registry/selftest.ts";
import { wholeNumber } from "./options.ts";
import { kilobytes } from "../figures.ts";
import { note, print, printJson } from "./terminal.ts";

const DAY_MS = 86_400_000;

export function keygenCommand(): Command {
  return new Command("keygen")
    .argument("<file>", "private key (PEM) to create; if it exists, only its line is printed")
    .addHelpText(
      "after",
      "\nExample:\n  edgelabel keygen release.pem >> trusted-keys\n\nThe same with OpenSSL: openssl genpkey -algorithm ed25519 -out release.pem",
    )
    .action(async (file: string) => {
      if (!existsSync(file)) {
        const pem = newPrivateKey();
        await writeFile(file, pem, { flag: "wx", mode: 0o600 }).catch((error: Error) => {
          throw new EdgelabelError(`${file}: cannot be written (${error.message})`);
        });
        note(
          `${file} is a new private key, ${keyId(createPrivateKey(pem))}: keep it where updates are made, not where they are used`,
        );
      }
      await print(`${trustLine(readPrivateKey(file), basename(file).replace(/\.pem$/, ""))}\n`);
    });
}

interface SignOptions {
  key: string;
  sequence: number;
  expires: Date;
  name?: string;
  texts?: string;
  output?: string;
  json?: boolean;
}

export function signCommand(): Command {
  return new Command("sign")
    .argument("<model>", "model file (.wasm or .elb)")
    .requiredOption("--key <file>", "private key, from edgelabel keygen")
    .requiredOption(
      "--sequence <number>",
      "a number higher than in any earlier update of this name, which is not the version; auto: the milliseconds since 1970",
      (text) => (text === "auto" ? Date.now() : wholeNumber(1, Number.MAX_SAFE_INTEGER)(text)),
    )
    .requiredOption("--expires <date>", "when it expires: 2027-12-31 (at 0:00 UTC), or 90d from now", parseExpiry)
    .option("--name <name>", "name that it is served under (default: the one in the model)")
    .option(
      "--texts <file>",
      `texts for the self-test, one a line, at most ${MAX_GOLDEN} (default: the empty text and the labels)`,
    )
    .option("-o, --output <file>", "update to write (default: MODEL.update)", updateName)
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      "\nExample:\n  edgelabel sign spam.wasm --key release.pem --sequence auto --expires 90d -o spam.update",
    )
    .action(async (model: string, options: SignOptions) => {
      const key = readPrivateKey(options.key);
      const bytes = await readModelFile(model);
      const manifest = await describeModel(bytes, model, {
        ...options,
        texts: options.texts === undefined ? undefined : await readTexts(options.texts),
      });
      const output = options.output ?? `${model.replace(/\.(wasm|elb)$/, "")}.update`;
      const update = Buffer.concat([encodeManifest(manifest, key), bytes]);
      await writeWhole(output, update);
      const { name, version, digest, sequence, expires, golden } = manifest;
      if (options.json)
        await printJson({
          file: output,
          bytes: update.length,
          name,
          version,
          digest,
          sequence,
          expires,
          key: keyId(key),
          golden: golden.length,
        });
      else
        await print(
          `${output}: ${name} version ${version}, sequence ${sequence}, ${kilobytes(update.length)}, ${golden.length} texts for the self-test, expires ${expires}, signed with ${keyId(key)}\n`,
        );
    });
}

async function readTexts(path: string): Promise<string[]> {
  const texts = (await readText(path)).split(/\r?\n/).filter((line) => line !== "");
  if (texts.length === 0 || texts.length > MAX_GOLDEN)
    throw new EdgelabelError(`${path}: has ${texts.length} texts, the self-test takes 1 to ${MAX_GOLDEN}`);
  return texts;
}

/** Refuses names of models: an update cannot be run, and could overwrite the model that it is made from. */
function updateName(path: string): string {
  if (/\.(elb|wasm)$/.test(path))
    throw new InvalidArgumentError("an update is not a model, so its name must not end in .wasm or .elb.");
  return path;
}

function parseExpiry(text: string): Date {
  const [, days] = /^(\d{1,5})d$/.exec(text) ?? [];
  const date = days === undefined ? new Date(text) : new Date(Date.now() + Number(days) * DAY_MS);
  // JavaScript also takes 3000, or February 31, as a date.
  const [, day = ""] = /^(\d{4}-\d\d-\d\d)(?:T|$)/.exec(text) ?? [];
  const isDate =
    Number.isFinite(date.getTime()) &&
    (days !== undefined || (day !== "" && new Date(day).toISOString().startsWith(day)));
  if (!isDate) throw new InvalidArgumentError("it takes a date such as 2027-12-31, or a number of days such as 90d.");
  if (date.getTime() <= Date.now()) throw new InvalidArgumentError("it is in the past.");
  return date;
}
