// The real Node-RED with the package of integrations/node-red, both as a user installs them.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { freePort } from "./mosquitto.ts";
import { checkout, makeRelease, run } from "./package.ts";
import { until } from "./wait.ts";

export const nodeRedPackage = join(checkout, "integrations/node-red");
const COUNTER = fileURLToPath(new URL("count-engines.cjs", import.meta.url));

/** Makes a release, and installs edgelabel and the nodes from it in a new user directory, without a network. */
export function installNodes(folder: string): void {
  mkdirSync(folder, { recursive: true });
  const packed = join(folder, "..", "release");
  makeRelease(packed);
  const tarballs = readdirSync(packed).filter((name) => name.endsWith(".tgz"));
  writeFileSync(join(folder, "package.json"), JSON.stringify({ name: "node-red-project", private: true }));
  const { status, stderr } = run(
    ["npm", "install", "--ignore-scripts", ...tarballs.map((name) => join(packed, name))],
    { cwd: folder },
  );
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
}

interface Memory {
  engines: number;
  heapUsed: number;
  external: number;
  arrayBuffers: number;
  rss: number;
}

export interface NodeRed {
  url: string;
  pid: number;
  /** All that it has logged, or what it has since the last deployment began. */
  logged(since?: "deployment"): string;
  kill(): void;
  /** Deploys these nodes in place of all others, as the editor's button does. */
  deploy(nodes: readonly object[]): Promise<void>;
  /** Presses the button of an inject node. */
  press(id: string): Promise<void>;
  /** After a collection of garbage. */
  memory(): Promise<Memory>;
}

/** Starts Node-RED without flows. */
export async function startNodeRed(program: string, folder: string): Promise<NodeRed> {
  const port = await freePort();
  writeFileSync(
    join(folder, "settings.js"),
    `module.exports = ${JSON.stringify({
      uiPort: port,
      uiHost: "127.0.0.1",
      flowFile: "flows.json",
      credentialSecret: false,
      editorTheme: { tours: false },
      telemetry: { enabled: false, updateNotification: false },
    })};`,
  );
  const settings = ["--userDir", folder, "--settings", join(folder, "settings.js")];
  const child = spawn(process.execPath, ["--expose-gc", "--require", COUNTER, program, ...settings], {
    stdio: ["ignore", "pipe", "pipe", "ipc"],
    cwd: folder,
  });
  let log = "";
  let deployedAt = 0;
  for (const stream of [child.stdout, child.stderr]) stream!.on("data", (chunk: Buffer) => (log += chunk.toString()));
  const isUp = () => ["Server now running", "Started flows"].every((each) => log.includes(each));
  await until(() => isUp() || child.exitCode !== null, 120_000);
  expect(isUp(), log).toBe(true);
  const url = `http://127.0.0.1:${port}`;
  const post = async (path: string, body?: object) => {
    const response = await fetch(url + path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body ?? {}),
    });
    expect({ status: response.status, text: await response.text() }).toMatchObject({
      status: expect.toSatisfy((status: number) => status < 300),
    });
  };
  return {
    url,
    pid: child.pid!,
    logged: (since) => log.slice(since === undefined ? 0 : deployedAt),
    kill: () => void child.kill("SIGKILL"),
    async deploy(nodes) {
      deployedAt = log.length;
      await post("/flows", nodes);
      await until(() => log.includes("Started flows", deployedAt));
    },
    press: (id) => post(`/inject/${id}`),
    async memory() {
      child.send("count");
      const [memory] = await once(child, "message");
      return memory as Memory;
    },
  };
}
