// `edgelabel demo`: the whole path on the example messages, by the commands that a user
// would type: train and quantize, serve on the embedded broker, ask over MQTT, keep serving.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { access, constants, readFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { Command } from "commander";
import { artefactPath } from "../artefact.ts";
import { EdgelabelError } from "../errors.ts";
import { programName } from "../program-name.ts";
import { print } from "./terminal.ts";

const NODE_NAME = "demo";
const USUAL_PORT = 1883;
/** The build copies the example texts from the sources. */
const EXAMPLES = relative("", artefactPath("demo"));

export function demoCommand(): Command {
  return new Command("demo")
    .option("--port <port>", "port of the embedded broker (default: 1883 if it is free)")
    .option("--once", "stop after the example messages")
    .addHelpText("after", "\nExample:\n  edgelabel demo --once")
    .action(async ({ port, once: stops }: { port?: string; once?: boolean }) => {
      const model = await access(artefactPath(""), constants.W_OK).then(
        () => relative("", artefactPath("demo.wasm")),
        () => join(tmpdir(), "edgelabel-demo.wasm"),
      );
      await finish(edgelabel("train", `${EXAMPLES}/messages.tsv`, "-o", model));
      const brokerPort = port ?? ((await isFree(USUAL_PORT)) ? String(USUAL_PORT) : "0");
      const service = edgelabel("serve", model, "--node", NODE_NAME, "--port", brokerPort, "--http", "0");
      const ended = once(service, "exit");
      for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => service.kill(signal));
      const broker = await Promise.race([brokerOf(service), ended.then(() => undefined)]);
      if (broker !== undefined) {
        for (const text of (await readFile(`${EXAMPLES}/ask.txt`, "utf8")).split("\n").filter(Boolean)) {
          await finish(edgelabel("ask", text, "--broker", broker, "--node", NODE_NAME));
        }
        if (stops) service.kill("SIGTERM");
        else await print("\nStill serving. Stop with Ctrl-C.\n");
      }
      requireDone(await ended);
    });
}

/** Runs a command line as the user would, in the same terminal; the service's output also comes here. */
function edgelabel(command: string, ...args: string[]): ChildProcess {
  process.stdout.write(
    `\n$ ${programName()} ${[command, ...args].map((part) => (/^[\w./:-]+$/.test(part) ? part : JSON.stringify(part))).join(" ")}\n`,
  );
  return spawn(process.execPath, [process.argv[1]!, command, ...args], {
    stdio: ["ignore", command === "serve" ? "pipe" : "inherit", "inherit"],
  });
}

async function finish(child: ChildProcess): Promise<void> {
  requireDone(await once(child, "exit"));
}

function requireDone([code]: unknown[]): void {
  if (code !== 0) throw new EdgelabelError(`that command ended with exit code ${code}`);
}

/** Resolves with the broker's URL once the service answers. */
function brokerOf(service: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    let seen = "";
    service.stdout!.on("data", (chunk: Buffer) => {
      process.stdout.write(chunk);
      seen += chunk.toString();
      const url = /MQTT broker\s+(\S+)/.exec(seen)?.[1];
      if (url !== undefined && seen.includes("Stop with Ctrl-C")) resolve(url);
    });
  });
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  try {
    await once(server.listen(port, "127.0.0.1"), "listening");
    return true;
  } catch {
    return false;
  } finally {
    server.close();
  }
}
