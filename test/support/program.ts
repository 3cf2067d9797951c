// Runs the built command line as a user does, and makes texts about lamps in rooms to train on.
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { programName } from "../../host/program-name.ts";

export const main = fileURLToPath(new URL("../../build/host/main.js", import.meta.url));
if (!existsSync(main)) throw new Error("build/host/main.js is missing: npm run build");

/** How messages name the program, run from the checkout. */
export const typed = programName(main);

export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
  bytes: Buffer;
}

export function edgelabel(args: string[], input: string | Uint8Array = ""): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [main, ...args],
      { encoding: "buffer", maxBuffer: 2 ** 26 },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : Number(error.code ?? -1);
        resolve({ code, stdout: stdout.toString(), stderr: stderr.toString(), bytes: stdout });
      },
    );
    child.stdin!.on("error", () => {}).end(input);
  });
}

/** Without the remark that texts to measure on were learnt: small tests do so. */
export function withoutSeen(stderr: string): string {
  return stderr.replace(/^edgelabel: \d+ of \d+ texts of --valid are in the data too.*\n/m, "");
}

/** Runs a command that must work and print one JSON object. */
export async function json(...args: string[]): Promise<any> {
  const { code, stdout, stderr } = await edgelabel([...args, "--json"]);
  expect({ code, stderr: withoutSeen(stderr) }).toEqual({ code: 0, stderr: "" });
  expect(stdout.endsWith("\n") && stdout.trim().split("\n")).toHaveLength(1);
  return JSON.parse(stdout);
}

const ROOMS = ["kitchen", "bedroom", "hall", "garden", "office", "cellar", "attic", "garage"];
const PHRASES: [string, string][] = [
  ["on", "switch the lamp in the ROOM on"],
  ["on", "please light the ROOM"],
  ["on", "make it bright in the ROOM"],
  ["off", "switch off everything in the ROOM"],
  ["off", "it should be dark in the ROOM"],
  ["off", "kill the light of the ROOM"],
];

/** 48 lines of "label<TAB>text"; every word is there 6 times or more. */
export const LAMPS: readonly string[] = ROOMS.flatMap((room) =>
  PHRASES.map(([label, phrase]) => `${label}\t${phrase.replace("ROOM", room)}\n`),
);

/** Settings under which a model of LAMPS is made in a second. */
export const SMALL = ["--embedding", "16", "--units", "8", "--epochs", "8"];
