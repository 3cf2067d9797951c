// integrations/node-red in the real Node-RED: what `npm pack` makes of it, installed in a new user directory.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { packModel } from "../../host/model/pack.ts";
import { tinyDeployable, trainSeveral } from "../support/models.ts";
import { describeFetched } from "../support/fetched.ts";
import { installNodes, type NodeRed, nodeRedPackage, startNodeRed } from "../support/node-red.ts";
import { edgelabel, LAMPS, serve, SMALL } from "../support/program.ts";
import { until } from "../support/wait.ts";
import { fetchNodeRed } from "../tools/fetch-node-red.mjs";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-node-red-"));
afterAll(() => rmSync(folder, { recursive: true, force: true, maxRetries: 10 }));
const user = join(folder, "user");

interface Told {
  status: number;
  /** The output that the message left by. */
  output?: "known" | "unknown";
  label?: string | null;
  score?: number;
  labels?: { label: string; score: number }[];
  scores?: Record<string, number>;
  explanation?: { tokens: object[] };
  payload?: any;
  error?: string;
}

const modelFile = (id: string, file: string) => ({ id, type: "edgelabel-model", source: "file", file });
const inTab = { z: "tab", x: 0, y: 0 };

/** `POST /ID` -> the node -> the message as JSON, with the output that it left by, or the error that a catch node gets. */
function asked(id: string, node: object, outputs = ["known", "unknown"]): object[] {
  return [
    { ...inTab, id: `${id}-in`, type: "http in", url: `/${id}`, method: "post", wires: [[`${id}-label`]] },
    // A correction comes as {payload, label}.
    {
      ...inTab,
      id: `${id}-label`,
      type: "function",
      func: "if (msg.payload.payload) { msg.label = msg.payload.label; msg.payload = msg.payload.payload; } return msg;",
      wires: [[id]],
    },
    { ...inTab, id, wires: outputs.map((output) => [`${id}-${output}`]), ...node },
    ...outputs.map((output) => ({
      ...inTab,
      id: `${id}-${output}`,
      type: "function",
      func: `const { label, score, labels, scores, explanation, payload } = msg; msg.payload = { output: "${output}", label, score, labels, scores, explanation, payload }; return msg;`,
      wires: [[`${id}-out`]],
    })),
    { ...inTab, id: `${id}-catch`, type: "catch", scope: [id], wires: [[`${id}-error`]] },
    {
      ...inTab,
      id: `${id}-error`,
      type: "function",
      func: "msg.payload = { error: msg.error.message }; msg.statusCode = 500; return msg;",
      wires: [[`${id}-out`]],
    },
    { ...inTab, id: `${id}-out`, type: "http response", wires: [] },
  ];
}

const classify = (id: string, model: string, settings: object = {}) =>
  asked(id, { type: "edgelabel-classify", model, ...settings });
const tab = { id: "tab", type: "tab", label: "test" };

describeFetched("Node-RED", "Node-RED", fetchNodeRed, (program) => {
  let red: NodeRed;

  async function ask(id: string, body: string | Uint8Array<ArrayBuffer> | object, type?: string): Promise<Told> {
    const isText = typeof body === "string";
    const isBytes = body instanceof Uint8Array;
    const response = await fetch(`${red.url}/${id}`, {
      method: "POST",
      headers: {
        "Content-Type": type ?? (isText ? "text/plain" : isBytes ? "application/octet-stream" : "application/json"),
      },
      body: isText || isBytes ? body : JSON.stringify(body),
    });
    return { status: response.status, ...((await response.json()) as object) };
  }

  afterAll(() => red.kill());
  beforeAll(async () => {
    installNodes(user);
    writeFileSync(join(user, "tiny.wasm"), await tinyDeployable());
    writeFileSync(join(user, "several.wasm"), await packModel((await trainSeveral()).write("int8")));
    red = await startNodeRed(program, user);
  }, 300_000);

  const deploy = (...nodes: object[]) => red.deploy([tab, ...nodes]);

  test("classifies: two outputs, one engine for all nodes of a model, and none left after 50 deployments", async () => {
    const flow = [
      modelFile("tiny", "tiny.wasm"),
      ...classify("plain", "tiny"),
      ...classify("strict", "tiny", { threshold: "0.999", scores: "2", explain: true }),
    ];
    await deploy(...flow);
    const known = await ask("plain", "turn on the light");
    expect(known).toMatchObject({ status: 200, output: "known", label: "light", payload: "turn on the light" });
    expect(known.score).toBeGreaterThan(0.5);
    expect(known).not.toHaveProperty("scores");
    expect(await ask("plain", new TextEncoder().encode("turn on the light"))).toMatchObject({
      label: "light",
      score: known.score,
    });
    expect(await ask("plain", { payload: 21 })).toMatchObject({ status: 200, score: expect.any(Number) });

    const unknown = await ask("strict", "turn on the light");
    expect(unknown).toMatchObject({ status: 200, output: "unknown", label: null, score: known.score });
    expect(Object.entries(unknown.scores!)[0]).toEqual(["light", known.score]);
    expect(Object.keys(unknown.scores!)).toHaveLength(2);
    expect(unknown.explanation!.tokens).toHaveLength(4);

    expect(await ask("plain", { text: "turn on the light" })).toMatchObject({
      status: 500,
      error: expect.stringContaining("msg.payload is an object, but a text is needed"),
    });
    expect((await red.memory()).engines).toBe(1);

    const deployed = async () => {
      await deploy(...flow);
      expect((await ask("plain", "play some jazz")).label).toBe("music");
    };
    for (let i = 0; i < 10; i++) await deployed();
    const before = await red.memory();
    for (let i = 0; i < 50; i++) await deployed();
    const after = await red.memory();
    expect([before.engines, after.engines]).toEqual([1, 1]);
    // An engine takes some MB outside the heap, so 50 of them could not hide here.
    expect(after.external - before.external).toBeLessThan(2 ** 20);
    expect(after.heapUsed - before.heapUsed).toBeLessThan(2 ** 22);

    await deploy();
    expect((await red.memory()).engines).toBe(0);
    // No text is logged, not even of a message that failed.
    expect(red.logged()).not.toMatch(/light|jazz/);
  });

  test("says what is wrong with a model, or that there is none", async () => {
    await deploy(
      modelFile("missing", "missing.wasm"),
      modelFile("nameless", ""),
      modelFile("odd", "settings.js"),
      ...classify("absent", "missing"),
      ...classify("unset", "nameless"),
      ...classify("alone", "nobody"),
      ...classify("other", "odd"),
    );
    const errorOf = async (id: string) => (await ask(id, "text")).error;
    expect(await errorOf("absent")).toContain("missing.wasm");
    expect(await errorOf("unset")).toContain("name its file");
    expect(await errorOf("alone")).toContain("no model is chosen");
    expect(await errorOf("other")).toContain("settings.js");
  });

  test("passes on all labels of a text that has several; one that has none is unknown", async () => {
    await deploy(modelFile("several", "several.wasm"), ...classify("several-of", "several"));
    const both = await ask("several-of", "turn on the light and play some jazz");
    expect(both).toMatchObject({ output: "known", label: both.labels![0]!.label, score: both.labels![0]!.score });
    expect(both.labels!.map(({ label }) => label).sort()).toEqual(["light", "music"]);
    expect(await ask("several-of", "good morning")).toMatchObject({ output: "unknown", label: null, labels: [] });
  });

  test("trains on the texts of a message, and learns from corrections", async () => {
    const learning = { type: "edgelabel-learn", model: "lamp", data: "lamp.tsv", valid: "valid.tsv" };
    await deploy(
      modelFile("lamp", "lamp.wasm"),
      ...classify("ask", "lamp"),
      ...asked("train", { type: "edgelabel-train", model: "lamp" }, ["done"]),
      ...asked("learn", learning, ["done"]),
      ...asked("careless", { ...learning, valid: "" }, ["done"]),
    );
    expect((await ask("ask", "switch the lamp in the kitchen on")).status).toBe(500);
    // What another program would be given as a file.
    const valid = LAMPS.filter((_, i) => i % 6 === 5);
    const data = LAMPS.filter((line) => !valid.includes(line));
    writeFileSync(join(user, "lamp.tsv"), data.join(""));
    writeFileSync(join(user, "valid.tsv"), valid.join(""));
    const texts = data.map((line) => line.trim().split("\t")).map(([label, text]) => ({ label, text }));
    const { payload: report, ...trained } = await ask("train", texts);
    expect(trained).toMatchObject({ status: 200 });
    expect(report).toMatchObject({ file: join(user, "lamp.wasm"), labels: ["off", "on"], validation: null });
    expect(report.train.accuracy).toBeGreaterThan(0.8);
    expect((await ask("ask", "switch the lamp in the kitchen on")).label).toBe("on");
    expect((await red.memory()).engines).toBe(1);

    const other = async (text: string) => ((await ask("ask", text)).label === "on" ? "off" : "on");
    expect((await ask("careless", { payload: "sesame", label: "on" })).error).toContain("a hold-out");
    expect((await ask("learn", { payload: "sesame" })).error).toContain("its right label in msg.label");
    for (const text of ["sesame", "good night"]) {
      const label = await other(text);
      const { status, payload } = await ask(
        "learn",
        text === "sesame" ? { payload: text, label } : { payload: [{ text, label }] },
      );
      expect({ status, ...payload }).toMatchObject({
        status: 200,
        accepted: true,
        version: expect.stringMatching(/^1\+/),
      });
      expect((await ask("ask", text)).label).toBe(label);
    }
    expect((await red.memory()).engines).toBe(1);
    const refused = await ask("learn", { payload: "sesame", label: "purple" });
    expect(refused.error).toContain("purple");
    // In a file of the training data there is no such text.
    expect((await ask("train", "not labelled")).error).toContain("msg.payload");
  });

  test("texts that cannot be handed on, or a folder that is not there: an error, and no process is left", async () => {
    const odd = (node: { id?: string }): object =>
      node.id === "odd-label"
        ? { ...node, func: "msg.payload = [{ text: 'a', label: 'b', more() {} }]; return msg;" }
        : node;
    await deploy(
      modelFile("lost", "nowhere/lost.wasm"),
      ...asked("odd", { type: "edgelabel-train", model: "lost" }, ["done"]).map(odd),
      ...asked("train", { type: "edgelabel-train", model: "lost" }, ["done"]),
    );
    expect((await ask("odd", "go")).error).toContain("could not be cloned");
    const texts = LAMPS.map((line) => line.trim().split("\t")).map(([label, text]) => ({ label, text }));
    expect((await ask("train", texts)).error).toContain(
      `${join(user, "nowhere/lost.elb")}: it cannot be written (ENOENT); choose a folder that is there`,
    );
    await until(() => childrenOf(red.pid).length === 0);
  });

  test("a deployment ends a training", async () => {
    await deploy(
      modelFile("new", "new.wasm"),
      ...asked("train", { type: "edgelabel-train", model: "new", data: "many.tsv" }, ["done"]),
    );
    writeFileSync(join(user, "many.tsv"), Array<string>(400).fill(LAMPS.join("")).join(""));
    const stop = new AbortController();
    // The message is lost with its flow.
    onTestFinished(() => stop.abort());
    void fetch(`${red.url}/train`, { method: "POST", signal: stop.signal }).catch(() => {});
    await until(() => childrenOf(red.pid).length > 0);
    const [child] = childrenOf(red.pid);
    await deploy();
    await until(() => !childrenOf(red.pid).includes(child!));
    expect(readdirSync(user)).not.toContain("new.wasm");
  });

  describe("a service on MQTT", () => {
    async function startService(...args: string[]): Promise<number> {
      const { url } = await serve([join(user, "tiny.wasm"), "--port", "0", "--node", "home", ...args]);
      return Number(new URL(url).port);
    }
    const broker = (port: number, settings: object = {}) => ({
      id: "broker",
      type: "mqtt-broker",
      broker: "127.0.0.1",
      port: String(port),
      protocolVersion: "5",
      autoConnect: true,
      ...settings,
    });
    const service = {
      id: "e4",
      type: "edgelabel-model",
      source: "service",
      broker: "broker",
      node: "home",
      timeout: "20",
    };

    test.each([
      ["3.1.1", { protocolVersion: "4" }],
      ["5, in a user's name", { protocolVersion: "5", credentials: { user: "phone", password: "secret" } }],
    ])("is asked over MQTT %s", async (_version, settings) => {
      const port = await startService();
      await deploy(
        broker(port, settings),
        service,
        { ...service, id: "absent", node: "nobody", timeout: "1" },
        { ...service, id: "e5", serviceModel: "other" },
        ...classify("ask", "e4", { scores: "1", explain: true }),
        ...classify("strict", "e4", { threshold: "0.999" }),
        ...classify("late", "absent"),
        ...classify("unserved", "e5"),
        ...asked("train", { type: "edgelabel-train", model: "e4" }, ["done"]),
      );
      await until(async () => (await ask("ask", "turn on the light")).status === 200);
      const known = await ask("ask", "turn on the light");
      expect(known).toMatchObject({ output: "known", label: "light", scores: { light: known.score } });
      expect(known.explanation!.tokens).toHaveLength(4);
      expect(await ask("strict", "turn on the light")).toMatchObject({ output: "unknown", label: null });
      // With what their explanations take, more than the service's queue holds.
      const many = await Promise.all(Array.from({ length: 200 }, () => ask("ask", "play some jazz")));
      expect(many.filter(({ label }) => label !== "music")).toEqual([]);
      expect((await ask("late", "turn on the light")).error).toMatch(
        /nothing came from edgelabel\/nobody\/(?:from\/phone\/)?classify/,
      );
      expect((await ask("unserved", "turn on the light")).error).toContain("unknown_model");
      expect((await ask("train", [])).error).toContain("a service cannot be trained");
      expect((await red.memory()).engines).toBe(0);
    });

    test("learns by a command", async () => {
      writeFileSync(join(folder, "lamp.tsv"), LAMPS.join(""));
      writeFileSync(join(folder, "valid.tsv"), "on\tswitch on the lamps\noff\tswitch everything off\n");
      const trained = await edgelabel(["train", join(folder, "lamp.tsv"), "-o", join(folder, "lamp.elb"), ...SMALL]);
      expect(trained.code, trained.stderr).toBe(0);
      await edgelabel(["pack", join(folder, "lamp.elb"), "-o", join(folder, "lamp.wasm")]);
      const config = join(folder, "service.json");
      writeFileSync(
        config,
        JSON.stringify({
          models: ["lamp.wasm"],
          node: "home",
          port: 0,
          commands: true,
          learning: { lamp: { training: "lamp.elb", data: "lamp.tsv", valid: "valid.tsv" } },
        }),
      );
      const { url } = await serve(["--config", config]);
      await deploy(
        broker(Number(new URL(url).port)),
        service,
        ...classify("ask", "e4"),
        ...asked("learn", { type: "edgelabel-learn", model: "e4" }, ["done"]),
      );
      await until(async () => (await ask("ask", "sesame")).status === 200);
      const label = (await ask("ask", "sesame")).label === "on" ? "off" : "on";
      const learnt = await ask("learn", { payload: "sesame", label });
      expect(learnt).toMatchObject({ status: 200, payload: { model: "lamp", accepted: true } });
      expect((await ask("ask", "sesame")).label).toBe(label);
      expect((await ask("learn", { payload: "sesame", label: "purple" })).error).toContain("purple");
    });
  });

  describe("the examples of the import menu", () => {
    const examples = readdirSync(join(nodeRedPackage, "examples"));
    const read = (name: string) =>
      JSON.parse(readFileSync(join(nodeRedPackage, "examples", name), "utf8")) as Record<string, unknown>[];
    /** What goes to the editor's sidebar also goes to the log. */
    const logged = (flow: Record<string, unknown>[]) =>
      flow.map((node) => (node["type"] === "debug" ? { ...node, console: true } : node));

    test("are offered by the editor", async () => {
      const names = await fetch(`${red.url}/library/examples/flows/node-red-contrib-edgelabel`);
      expect(names.status).toBe(200);
      expect(JSON.stringify(await names.json())).toContain(examples[0]!.replace(".json", ""));
    });

    test("train and classify", async () => {
      const flow = read(examples.find((name) => name.startsWith("1"))!);
      await red.deploy(logged(flow));
      const button = (payload: string) =>
        flow.find((node) => node["type"] === "inject" && String(node["payload"]).startsWith(payload))!["id"] as string;
      await red.press(button("[{"));
      await until(() => red.logged("deployment").includes("[debug:report]"), 120_000);
      await red.press(button("play a song"));
      await until(() => red.logged("deployment").includes("[debug:music]"));
      await red.press(button("where are my keys"));
      await until(() => red.logged("deployment").includes("[debug:unknown]"));
    });

    test.each(["3", "4"])("%s: a service", async (number) => {
      const { url } = await serve([join(user, "tiny.wasm"), "--port", "0", "--node", "home"]);
      const flow = read(examples.find((name) => name.startsWith(number))!);
      if (number === "4")
        expect(flow.map(({ type }) => type).filter((type) => String(type).startsWith("edgelabel"))).toEqual([]);
      const { port } = new URL(url);
      await red.deploy(logged(flow.map((node) => (node["type"] === "mqtt-broker" ? { ...node, port } : node))));
      const { id } = flow.find(({ type }) => type === "inject")!;
      await until(async () => {
        await red.press(id as string);
        return red.logged("deployment").includes("[debug:known]");
      });
      expect(red.logged("deployment")).toMatch(/label: '(?:light|music|weather)'/);
    });
  });

  test("the package is of edgelabel's version, and says what it needs", () => {
    const own = JSON.parse(readFileSync(join(nodeRedPackage, "package.json"), "utf8"));
    const { version } = JSON.parse(readFileSync(join(nodeRedPackage, "../../package.json"), "utf8"));
    expect(own).toMatchObject({
      version,
      dependencies: { edgelabel: `^${version}` },
      keywords: expect.arrayContaining(["node-red"]),
    });
  });
});

/** The processes that a process has started, by their ids. */
function childrenOf(pid: number): string[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean);
}
