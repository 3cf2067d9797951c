// The commands as processes: keys, updates, a registry folder, a service on it, crashes.
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Registry } from "../../host/registry/registry.ts";
import { TestClient } from "../support/fake.ts";
import { main, serve, type Serving } from "../support/program.ts";
import { until } from "../support/wait.ts";
import { lineOf, modelOf } from "../support/registry.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-models-"));
const file = (name: string) => join(folder, name);

beforeAll(async () => {
  for (const version of [1, 2, 3]) writeFileSync(file(`v${version}.wasm`), await modelOf(version, { packed: true }));
  const line = await ok("keygen", "release.pem");
  expect(line).toMatch(/^ed25519 [A-Za-z0-9+/]{59}= release\n$/);
  writeFileSync(file("keys"), line);
  for (const version of [1, 2, 3]) {
    expect(
      await ok("sign", `v${version}.wasm`, "--key", "release.pem", "--sequence", String(version), "--expires", "90d"),
    ).toMatch(new RegExp(`^v${version}\\.update: spam version ${version}, sequence ${version}, `));
  }
  expect(await ok("models", "list", "registry")).toBe("there is no registry in registry yet\n");
  for (const version of [1, 2])
    expect(await ok("models", "install", "registry", `v${version}.update`, "--keys", "keys")).toMatch(
      new RegExp(`^spam\t${version}\tactive\t`),
    );
});
afterAll(() => rmSync(folder, { recursive: true }));

function run(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [main, ...args], { cwd: folder, encoding: "utf8" }, (error, stdout, stderr) =>
      resolve({ code: error ? Number(error.code) : 0, stdout, stderr }),
    );
  });
}

async function ok(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(...args);
  expect([code, stderr]).toEqual([0, args[0] === "keygen" ? expect.anything() : ""]);
  return stdout;
}

interface Answering extends Serving {
  /** The line that it gives for any text. */
  ask(): Promise<string>;
}

async function startService(...args: string[]): Promise<Answering> {
  const serving = await serve(["--port", "0", "--http", "0", "--node", "n", ...args], { cwd: folder });
  return {
    ...serving,
    ask: async () => {
      const body = JSON.stringify({ inputs: [{ name: "text", datatype: "BYTES", shape: [1], data: ["x"] }] });
      const response = await fetch(`${serving.http}/v2/models/spam/infer`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body,
      });
      const {
        outputs: [label, score],
      } = (await response.json()) as { outputs: [{ data: string[] }, { data: number[] }] };
      return `${label.data[0]}\t${score.data[0]!.toFixed(6)}`;
    },
  };
}

test("a private key is for its owner, and not made anew", async () => {
  expect(statSync(file("release.pem")).mode & 0o077).toBe(0);
  expect(readFileSync(file("release.pem"), "utf8")).toMatch(/^-----BEGIN PRIVATE KEY-----/);
  expect(await ok("keygen", "release.pem")).toBe(readFileSync(file("keys"), "utf8"));
});

test("--sequence auto is the time, so it is higher than that of any update before", async () => {
  const before = Date.now();
  const signed = async () =>
    JSON.parse(
      await ok(
        ...["sign", "v1.wasm", "--key", "release.pem", "--sequence", "auto", "--expires", "1d"],
        ...["-o", "auto.update", "--json"],
      ),
    ).sequence as number;
  const first = await signed();
  expect(first).toBeGreaterThanOrEqual(before);
  expect(await signed()).toBeGreaterThan(first);
  expect(await ok("models", "install", "auto", "auto.update", "--keys", "keys")).toMatch(/^spam\t1\tactive\t/);
});

test("list, rollback, activate, remove, and a model without a signature", async () => {
  expect(JSON.parse(await ok("models", "list", "registry", "--json"))).toMatchObject([
    { version: "2", state: "active", sequence: 2 },
    { version: "1", state: "previous", sequence: 1 },
  ]);
  expect(await ok("models", "rollback", "registry", "spam", "--keys", "keys")).toMatch(/^spam\t1\tactive/);
  expect(await ok("models", "activate", "registry", "spam", "2", "--keys", "keys")).toMatch(/^spam\t2\tactive/);
  expect(await ok("models", "install", "registry", "v3.wasm", "--unsigned", "--name", "mine", "--no-activate")).toMatch(
    /^mine\t3\twaiting\t.*\tunsigned\n$/,
  );
  expect(await ok("models", "remove", "registry", "mine")).toBe("mine: 3 removed\n");
});

describe("misuse", () => {
  test.each([
    [
      ["models", "install", "registry", "v1.update", "--keys", "keys"],
      1,
      "has sequence 1, but 2 of spam was installed already",
    ],
    [["models", "install", "registry", "v3.update"], 1, "no keys are trusted here"],
    [
      ["models", "install", "registry", "v3.wasm", "--keys", "keys"],
      1,
      `v3.wasm: is not an update; make one with: node ${main} sign`,
    ],
    [["models", "install", "registry", "v3.update", "--name", "x"], 1, "--name is for --unsigned"],
    [["sign", "v1.wasm", "--key", "v1.wasm", "--sequence", "1", "--expires", "1d"], 1, "is not a private key in PEM"],
    [
      ["sign", "v1.wasm", "--key", "release.pem", "--sequence", "0", "--expires", "1d"],
      2,
      "it takes a whole number from 1",
    ],
    [["sign", "v1.wasm", "--key", "release.pem", "--sequence", "1", "--expires", "2020-01-01"], 2, "it is in the past"],
    [
      ["sign", "v1.wasm", "--key", "release.pem", "--sequence", "1", "--expires", "3000"],
      2,
      "it takes a date such as 2027-12-31, or a number of days such as 90d",
    ],
    [
      ["sign", "v1.wasm", "--key", "release.pem", "--sequence", "1", "--expires", "3000-02-31"],
      2,
      "it takes a date such as",
    ],
    [
      ["sign", "v1.wasm", "--key", "release.pem", "--sequence", "1", "--expires", "3000-02-31T12:00Z"],
      2,
      "it takes a date such as",
    ],
    [
      ["sign", "v1.wasm", "--key", "release.pem", "--sequence", "1", "--expires", "1d", "-o", "v1.wasm"],
      2,
      "an update is not a model",
    ],
    [["serve", "v1.wasm", "--keys", "keys", "--port", "0"], 1, "--keys is for updates of a registry"],
    [
      ["serve", "v1.wasm", "--registry", "registry", "--port", "0"],
      1,
      "two models are called spam, one of them in the registry",
    ],
    [["models", "send", "v3.update", "--broker", "mqtt://127.0.0.1:1"], 1, "cannot reach mqtt://127.0.0.1:1"],
  ] as [string[], number, string][])("%j: exit %i", async (args, code, message) => {
    const result = await run(...args);
    expect([result.code, result.stderr]).toEqual([code, expect.stringContaining(message)]);
  });
});

test("a service follows installs in its folder and updates that are sent to it; a restart keeps them", async () => {
  const config = file("edgelabel.json");
  writeFileSync(config, JSON.stringify({ registry: { path: "registry", keys: "keys" }, commands: true }));
  const first = await startService("--config", config);
  expect(first.output()).toContain("every program on this machine may send them");
  expect(await first.ask()).toBe(lineOf(2));
  await ok("models", "rollback", "registry", "spam", "--keys", "keys");
  await until(() => first.output().includes("model spam is version 1 now"));
  expect(await first.ask()).toBe(lineOf(1));
  expect(await ok("models", "send", "v3.update", "--broker", first.url, "--node", "n")).toMatch(/^spam\t3\tactive\t/);
  expect(await first.ask()).toBe(lineOf(3));
  expect((await run("models", "send", "v3.update", "--broker", first.url, "--node", "n")).stderr).toContain(
    "the service refuses: the update: has sequence 3, but 3",
  );
  await first.end("SIGTERM");
  expect((await run("serve", "--config", config, "--check")).stdout).toContain(
    "the configuration is valid: models spam;",
  );
  const second = await startService("--config", config);
  expect(await second.ask()).toBe(lineOf(3));
  await second.end("SIGTERM");
});

test("an operator elsewhere lists, activates, rolls back and removes by the broker", async () => {
  const owner = new Registry(file("far"), { keys: file("keys") });
  for (const version of [1, 2, 3])
    await owner.install(readFileSync(file(`v${version}.update`)), "u", { activate: version < 3 });
  const config = file("far.json");
  writeFileSync(config, JSON.stringify({ registry: { path: "far", keys: "keys" }, commands: true }));
  const serving = await startService("--config", config);
  const there = ["--broker", serving.url, "--node", "n"];
  const states = async () =>
    (JSON.parse(await ok("models", "list", ...there, "--json")) as { version: string; state: string }[]).map(
      ({ version, state }) => `${version} ${state}`,
    );
  expect(await ok("models", "list", ...there)).toBe(await ok("models", "list", "far"));
  expect(await states()).toEqual(["3 waiting", "2 active", "1 previous"]);
  expect(await ok("models", "activate", "spam", "3", ...there)).toMatch(/^spam\t3\tactive\t/);
  expect(await serving.ask()).toBe(lineOf(3));
  expect(JSON.parse(await ok("models", "rollback", "spam", ...there, "--json"))).toMatchObject({
    version: "2",
    state: "active",
  });
  expect(await serving.ask()).toBe(lineOf(2));
  expect(await ok("models", "remove", "spam", "3", ...there)).toBe("spam: 3 removed\n");
  expect(await states()).toEqual(["2 active", "1 waiting"]);
  for (const [args, code, message] of [
    [["rollback", "spam", ...there], 1, "the service refuses: spam has no previous version to go back to"],
    [["activate", "spam", "9", ...there], 1, "the service refuses: "],
    [["remove", "spam", ...there], 1, "spam is the only model that is served; install another one first"],
    [["remove", "spam", "2", ...there], 1, "the service refuses: version 2 of spam is active"],
    [["remove", "nope", ...there], 1, 'the service refuses: the registry has no model "nope"'],
    [
      ["activate", "far", "spam", "2", ...there],
      2,
      "too many arguments for 'activate', which takes no folder with --broker",
    ],
    [["activate", "far", "spam"], 2, "missing required argument 'version'"],
    [["rollback", ...there], 2, "missing required argument 'name'"],
    [["list"], 2, "missing required argument 'folder'"],
    [["rollback", "spam", ...there, "--keys", "keys"], 2, "cannot be used with option '--broker"],
    [["list", "--broker", "mqtt://127.0.0.1:1"], 1, "cannot reach mqtt://127.0.0.1:1"],
    [["list", "--broker", serving.url, "--node", "other"], 1, "other does not answer on edgelabel/other/cmd/list/"],
  ] as [string[], number, string][]) {
    const result = await run("models", ...args);
    expect([args, result.code, result.stderr]).toEqual([args, code, expect.stringContaining(message)]);
    if (args.includes("other")) expect(result.stderr).toContain('may this user publish there? (online: "n")');
  }
  await serving.end("SIGTERM");
  const plain = file("plain.json");
  writeFileSync(plain, JSON.stringify({ models: ["v1.wasm"], commands: true }));
  const files = await startService("--config", plain);
  expect(await ok("models", "list", "--broker", files.url, "--node", "n")).toMatch(/^spam\t1\tserved\t[0-9a-f]{12}\n$/);
  expect((await run("models", "rollback", "spam", "--broker", files.url, "--node", "n")).stderr).toContain(
    "the service refuses: there is no such command here; the commands are list",
  );
  await files.end("SIGTERM");
});

test("a gateway that comes without a model waits for its first one", async () => {
  const config = file("fresh.json");
  const text = (more: object) =>
    writeFileSync(
      config,
      JSON.stringify({
        registry: { path: "fresh", keys: "keys" },
        commands: true,
        routes: [{ name: "r", filter: "in/#", model: "spam", outputs: [{ topic: "out" }] }],
        ...more,
      }),
    );
  text({
    registry: "fresh",
    models: ["v1.wasm"],
    routes: [{ name: "r", filter: "in/#", model: "later", outputs: [{ topic: "out" }] }],
  });
  expect((await run("serve", "--config", config, "--check")).stderr).toContain(
    'warning: route "r" names the model later, which is not served; the models are spam; it works as soon as the registry has that model',
  );
  text({ registry: undefined, models: [{ name: "mine", path: "v1.wasm" }] });
  expect(await run("serve", "--config", config, "--check")).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('route "r" names the model spam, which is not served; the models are mine'),
  });
  text({});
  const checked = await run("serve", "--config", config, "--check");
  expect([checked.code, checked.stdout]).toEqual([
    0,
    expect.stringContaining("the configuration is valid: models none yet;"),
  ]);
  expect(checked.stderr).toContain(
    `warning: the registry ${file("fresh")} has no active model; requests get the error no_model until one is installed: node ${main} models install ${file("fresh")} UPDATE, or models send`,
  );
  expect(checked.stderr).not.toContain("keys");
  text({ registry: { path: "fresh", keys: "no-keys" } });
  expect((await run("serve", "--config", config, "--check")).stderr).toContain(
    `warning: no update can be installed, and no kept version activated: cannot read the file of trusted keys ${file("no-keys")}`,
  );
  text({});
  const serving = await startService("--config", config);
  expect(serving.output()).toContain("edgelabel/n/classify  (no model yet)");
  expect((await run("ask", "x", "--broker", serving.url, "--node", "n")).stderr).toContain(
    "the service answers no_model",
  );
  await ok("models", "send", "v1.update", "--broker", serving.url, "--node", "n");
  expect(await serving.ask()).toBe(lineOf(1));
  await serving.end("SIGTERM");
});

test("a new version with which the service crashes twice is rolled back at the third start; --check does not count", async () => {
  const other = file("crashing");
  const owner = new Registry(other, { keys: file("keys") });
  await owner.install(readFileSync(file("v1.update")), "v1");
  // The first one stays long enough to prove itself: by a hundred answers.
  const proving = await startService("--registry", other, "--keys", "keys");
  const client = await TestClient.connect(proving.url, 4);
  await client.subscribe("edgelabel/n/label");
  await client.publish("edgelabel/n/classify", JSON.stringify({ texts: Array.from({ length: 100 }, () => "x") }));
  await client.next();
  await client.close();
  await proving.end("SIGTERM");
  await owner.install(readFileSync(file("v2.update")), "v2");
  for (let start = 1; start <= 2; start++) {
    expect((await run("serve", "--registry", other, "--keys", "keys", "--check")).code).toBe(0);
    const serving = await startService("--registry", other, "--keys", "keys");
    expect(await serving.ask()).toBe(lineOf(2));
    await serving.end("SIGKILL");
  }
  const third = await startService("--registry", other, "--keys", "keys");
  expect(third.output()).toContain(
    "version 2 of model spam failed: the service did not get through its first 2 starts with it",
  );
  expect(await third.ask()).toBe(lineOf(1));
  await third.end("SIGTERM");
});
