// Runs the built command line as a user does, and makes texts about lamps in rooms to train on.
import { type ChildProcess, execFile, spawn, type SpawnOptions } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished } from "vitest";
import { programName } from "../../host/program-name.ts";
import { until } from "./wait.ts";

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

/** A program that goes on beside the test. */
export interface Running {
  child: ChildProcess;
  stdout(): string;
  stderr(): string;
  /** Both, as they came. */
  output(): string;
  /** The exit code, null after a signal, when it has ended and all its output has come. */
  ended: Promise<number | null>;
  /** Sends the signal; resolves to the exit code and the time that the end took. */
  end(signal?: NodeJS.Signals): Promise<{ code: number | null; ms: number }>;
}

/** Starts a program, which is killed at the end of the test. */
export function startProgram(command: string, args: readonly string[], options: SpawnOptions = {}): Running {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
  onTestFinished(() => void child.kill("SIGKILL"));
  const said = { stdout: "", stderr: "", both: "" };
  for (const name of ["stdout", "stderr"] as const)
    child[name]!.on("data", (chunk: Buffer) => {
      said[name] += chunk.toString();
      said.both += chunk.toString();
    });
  const ended = once(child, "close").then(([code]) => code as number | null);
  return {
    child,
    stdout: () => said.stdout,
    stderr: () => said.stderr,
    output: () => said.both,
    ended,
    async end(signal = "SIGTERM") {
      const since = performance.now();
      child.kill(signal);
      return { code: await ended, ms: performance.now() - since };
    },
  };
}

export interface Serving extends Running {
  /** Of its own broker. */
  url: string;
  http: string;
}

/** Starts `serve`, and waits until it says that it serves; fails if it ends, or finds no broker. `node` are the command and the options in front. */
export async function serve(
  args: readonly string[],
  { node = [process.execPath], ...options }: SpawnOptions & { node?: readonly string[] } = {},
): Promise<Serving> {
  const running = startProgram(node[0]!, [...node.slice(1), main, "serve", ...args], options);
  const hasFailed = () => running.child.exitCode !== null || running.output().includes("cannot reach");
  await until(() => running.stdout().includes("Stop with Ctrl-C") || hasFailed(), 120_000);
  expect(hasFailed(), running.output()).toBe(false);
  const address = (scheme: string) => new RegExp(`${scheme}://127\\.0\\.0\\.1:\\d+`).exec(running.stdout())?.[0] ?? "";
  return { ...running, url: address("mqtt"), http: address("http") };
}

/** Without the remark that texts to measure on were learnt: small tests do so. */
export function withoutSeen(stderr: string): string {
  return stderr.replace(/^edgelabel: \d+ of \d+ texts of the validation data are in the training data too.*\n/m, "");
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
export const SMALL = ["--set", "embedding-dim=16", "--set", "units=8", "--epochs", "8"];
