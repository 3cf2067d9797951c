// A real Mosquitto for tests: the one in $MOSQUITTO or on the PATH, else the
// distribution's packages in the user's cache. Without one its tests skip,
// visibly; under CI=true they fail.
import { execFile, spawn, spawnSync } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createConnection, createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, onTestFinished, test } from "vitest";
import { pause } from "./wait.ts";

export interface Mosquitto {
  broker: string;
  pub: string;
  sub: string;
  rr: string;
  env: NodeJS.ProcessEnv;
}

function installed(): Mosquitto | undefined {
  const given = process.env["MOSQUITTO"];
  const folders = [
    ...(given ? [dirname(given)] : []),
    ...(process.env["PATH"] ?? "").split(delimiter),
    "/usr/sbin",
    "/usr/local/sbin",
  ];
  const find = (name: string) => folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
  const broker = given ?? find("mosquitto");
  const [pub, sub, rr] = ["mosquitto_pub", "mosquitto_sub", "mosquitto_rr"].map(find);
  return broker && pub && sub && rr ? { broker, pub, sub, rr, env: process.env } : undefined;
}

function fetched(): Mosquitto | undefined {
  const script = fileURLToPath(new URL("../tools/fetch-mosquitto.mjs", import.meta.url));
  const { status, stdout, stderr } = spawnSync(process.execPath, [script], { encoding: "utf8" });
  if (status !== 0) {
    process.stderr.write(stderr);
    return undefined;
  }
  const root = stdout.trim();
  const libraries = ["usr/lib", "lib"].map((folder) => join(root, folder)).filter((folder) => existsSync(folder));
  const folders = libraries.flatMap((folder) => [
    folder,
    ...readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => join(folder, entry.name)),
  ]);
  const bin = (name: string) => join(root, "usr/bin", name);
  return {
    broker: join(root, "usr/sbin/mosquitto"),
    pub: bin("mosquitto_pub"),
    sub: bin("mosquitto_sub"),
    rr: bin("mosquitto_rr"),
    env: { ...process.env, LD_LIBRARY_PATH: folders.join(delimiter) },
  };
}

const mosquitto: Mosquitto | undefined = installed() ?? fetched();

/** A `describe` whose tests need Mosquitto. */
export function describeMosquitto(name: string, body: (binaries: Mosquitto) => void): void {
  const binaries = mosquitto;
  if (binaries) describe(name, () => body(binaries));
  else if (process.env["CI"] === "true")
    test(name, () => {
      throw new Error("Mosquitto is absent, and CI=true demands it");
    });
  else
    describe.skip(`${name} (needs Mosquitto)`, () => {
      test("skipped", () => {});
    });
}

/** Below those that systems give to whoever asks for any port, so that nobody else takes it before the test does. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(12_000 * Math.random());
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false)).listen(port, "127.0.0.1", () => resolve(true));
    });
    if (!isFree) continue;
    await new Promise((resolve) => {
      server.close(resolve);
    });
    return port;
  }
}

export interface RunningMosquitto {
  port: number;
  url: string;
  process: ChildProcess;
  /** Ends it at once, as a power cut would. */
  kill(): Promise<void>;
}

/** Starts a broker for this test alone; `lines` are added to its configuration. */
export async function startMosquitto(
  binaries: Mosquitto,
  { port, lines = [], tries = 3 }: { port?: number; lines?: string[]; tries?: number } = {},
): Promise<RunningMosquitto> {
  const folder = mkdtempSync(join(tmpdir(), "edgelabel-mosquitto-"));
  const chosen = port ?? (await freePort());
  const config = join(folder, "mosquitto.conf");
  const user = process.getuid?.() === 0 ? ["user root"] : [];
  writeFileSync(
    config,
    [`listener ${chosen} 127.0.0.1`, "allow_anonymous true", "persistence false", ...user, ...lines, ""].join("\n"),
  );
  const child = spawn(binaries.broker, ["-c", config], { env: binaries.env, stdio: ["ignore", "ignore", "pipe"] });
  // A test that fails never comes to its own kill().
  onTestFinished(() => void child.kill("SIGKILL"));
  let output = "";
  child.stderr!.on("data", (chunk: Buffer) => {
    output += chunk.toString();
  });
  const exited = once(child, "exit").finally(() => rmSync(folder, { recursive: true, force: true }));
  // Its own word, not only an open port: that may be someone else's by now.
  for (let i = 0; !(/ running\n/.test(output) && (await accepts(chosen))); i++) {
    if (i === 400 || child.exitCode !== null) {
      child.kill("SIGKILL");
      if (port === undefined && /Address already in use/.test(output) && tries > 1)
        return startMosquitto(binaries, { lines, tries: tries - 1 });
      throw new Error(`mosquitto does not start: ${output}`);
    }
    await pause(25);
  }
  return {
    port: chosen,
    url: `mqtt://127.0.0.1:${chosen}`,
    process: child,
    async kill() {
      child.kill("SIGKILL");
      await exited;
    },
  };
}

export function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

/** Runs one of Mosquitto's clients to its end; resolves to what it printed. */
export async function runClient(binaries: Mosquitto, name: "pub" | "sub" | "rr", args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(binaries[name], args, {
    env: binaries.env,
    encoding: "utf8",
    timeout: 60_000,
  });
  return stdout;
}
