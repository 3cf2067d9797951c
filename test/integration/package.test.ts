// The package as people get it: the files of a release, installed in empty folders by npm without install
// scripts, at work under each version of Node that package.json names.
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { findChromium, launchChromium } from "../support/chromium.ts";
import { checkout, installGlobally, makeRelease, run, userEnv } from "../support/package.ts";
import { LAMPS, main, SMALL, startProgram } from "../support/program.ts";
import { until } from "../support/wait.ts";
import { fetchNode, NODE_VERSIONS } from "../tools/fetch-node.mjs";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-package-"));
const release = join(folder, "release");
const prefix = join(folder, "prefix");
const program = join(prefix, "bin/edgelabel");
const { version, engines } = JSON.parse(readFileSync(join(checkout, "package.json"), "utf8")) as {
  version: string;
  engines: { node: string };
};
const start = `edgelabel-${version}`;
let tarball: string;

beforeAll(() => {
  tarball = makeRelease(release);
  installGlobally(tarball, prefix);
}, 300_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const digest = (path: string) => createHash("sha256").update(readFileSync(path)).digest("hex");
const read = (path: string) => readFileSync(path, "utf8");

describe("the files of a release", () => {
  interface Locked {
    version: string;
    integrity?: string;
    dev?: boolean;
    devOptional?: boolean;
  }
  const lock = (JSON.parse(read(join(checkout, "package-lock.json"))) as { packages: Record<string, Locked> }).packages;
  const nameOf = (path: string) => path.split("node_modules/").at(-1)!;
  /** "name version" of what is installed beside edgelabel. */
  const expected = Object.entries(lock)
    .filter(([path, { dev, devOptional }]) => path && !dev && !devOptional)
    .map(([path, each]) => `${nameOf(path)} ${each.version}`)
    .toSorted();

  test("are these, and have the digests of SHA256SUMS", () => {
    const nodes = `node-red-contrib-edgelabel-${version}.tgz`;
    const files = [`${start}.cdx.json`, `${start}.licences.txt`, `${start}.tgz`, nodes];
    expect(readdirSync(release).toSorted()).toEqual(["SHA256SUMS", ...files]);
    expect(read(join(release, "SHA256SUMS"))).toBe(
      files.map((file) => `${digest(join(release, file))}  ${file}\n`).join(""),
    );
  });

  test("the tarball has what a user needs, and nothing of the tests", () => {
    const { stdout } = run(["tar", "-tzf", tarball], { cwd: folder });
    const files = stdout
      .trim()
      .split("\n")
      .filter((file) => !file.startsWith("package/node_modules/"));
    for (const file of [
      "package.json",
      "README.md",
      "LICENSE",
      "CHANGELOG.md",
      "bin/edgelabel.js",
      "build/engine.wasm",
      "build/trainer.wasm",
      "build/demo/messages.tsv",
      "build/web/index.html",
      "build/web/edgelabel.js",
      "build/web/edgelabel-trainer.js",
      "build/web/playground.js",
      "build/web/playground-worker.js",
      "build/web/playground.css",
      "build/web/example.elb",
      "build/host/index.d.ts",
      "docs/api.md",
      "deploy/README.md",
      "deploy/edgelabel.service",
      "docs/commands.md",
      "docs/openapi.json",
    ])
      expect(files).toContain(`package/${file}`);
    expect(
      files.filter((file) =>
        /testing|\.tgz$|release|tsbuildinfo|\.map$|demo\.wasm|^package\/(?:host|assembly|test)\//.test(file),
      ),
    ).toEqual([]);
  });

  test("npm installs what package-lock.json pins, and no more, without a network", () => {
    const listed = run(["npm", "ls", "--global", "--all", "--parseable", "--long", "--prefix", prefix], {
      cwd: folder,
    });
    const names = [...listed.stdout.matchAll(/[\\/]edgelabel[\\/]node_modules[\\/].*:(\S+)@([^@\s:]+)$/gm)];
    expect(names.map(([, name, of]) => `${name} ${of}`).toSorted()).toEqual(expected);
  });

  test("the bill of materials and the licences name the same packages", () => {
    const { bomFormat, metadata, components } = JSON.parse(read(join(release, `${start}.cdx.json`))) as {
      bomFormat: string;
      metadata: { component: { name: string; version: string } };
      components: { name: string; version: string; hashes: { content: string }[] }[];
    };
    expect([bomFormat, metadata.component]).toEqual([
      "CycloneDX",
      expect.objectContaining({ name: "edgelabel", version }),
    ]);
    expect(components.map((each) => `${each.name} ${each.version}`).toSorted()).toEqual(expected);
    for (const { name, version: of, hashes } of components) {
      const [, { integrity }] = Object.entries(lock).find(
        ([path, each]) => nameOf(path) === name && each.version === of,
      )! as [string, Locked];
      expect(hashes[0]!.content).toBe(Buffer.from(integrity!.replace("sha512-", ""), "base64").toString("hex"));
    }
    const licences = read(join(release, `${start}.licences.txt`)).split(`\n${"=".repeat(80)}\n\n`);
    const titles = licences.map((text) => /^(\S+ \S+): \S/.exec(text)![1]!);
    expect(titles.toSorted()).toEqual(
      [...expected, `assemblyscript ${lock["node_modules/assemblyscript"]!.version}`].toSorted(),
    );
  });
});

function nodeOf(each: string): string | undefined {
  try {
    return fetchNode(each);
  } catch (error) {
    if (process.env["CI"] === "true") throw error;
    process.stderr.write(`\n*** Node ${each} cannot be had: ${(error as Error).message}\n`);
    return undefined;
  }
}

/** What a user does first, with the files and answers that come of it. */
async function tour(command: readonly string[], home: string) {
  mkdirSync(home);
  writeFileSync(join(home, "lamps.tsv"), LAMPS.join(""));
  writeFileSync(join(home, "fixes.tsv"), "on\tdarkness must end\noff\tenough of the glare\n");
  const edgelabel = (args: string[], input = "") => {
    const ran = run([...command, ...args], { cwd: home, input });
    expect({ args, status: ran.status, stderr: ran.status === 0 ? "" : ran.stderr }).toEqual({
      args,
      status: 0,
      stderr: "",
    });
    return ran.stdout;
  };
  edgelabel(["train", "lamps.tsv", "-o", "lamps.elb", ...SMALL]);
  edgelabel(["train", "lamps.tsv", "-o", "lamps.wasm", ...SMALL]);
  const answers = edgelabel(["predict", "lamps.wasm"], "light the hall\nit is too dark\nоткройте\n");
  const info = edgelabel(["info", "lamps.wasm", "--json"]);

  const serving = startProgram(
    command[0]!,
    [...command.slice(1), "serve", "lamps.wasm", "--node", "n", "--port", "0", "--http", "0"],
    { cwd: home, env: userEnv },
  );
  await until(() => serving.stdout().includes("Stop with Ctrl-C") || serving.child.exitCode !== null, 120_000);
  expect(serving.output()).toContain("Stop with Ctrl-C");
  const [broker] = /mqtt:\/\/127\.0\.0\.1:\d+/.exec(serving.stdout())!;
  const [http] = /http:\/\/127\.0\.0\.1:\d+/.exec(serving.stdout())!;
  const asked = edgelabel(["ask", "light the hall", "--broker", broker, "--node", "n"]);
  const posted = await fetch(`${http}/predict`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ data: "light the hall" }),
  });
  const label = await posted.text();
  expect((await serving.end()).code).toBe(0);

  const learnt = edgelabel([
    "learn",
    "lamps.elb",
    "--corrections",
    "fixes.tsv",
    "--data",
    "lamps.tsv",
    "--valid",
    "lamps.tsv",
  ]);
  const models = ["lamps.wasm", "lamps.previous.elb", "lamps.elb"].map((name) => digest(join(home, name)));
  return { answers, info, asked, label, learnt: learnt.replace(/in [\d.]+ s$/m, ""), models };
}

describe("at work", { timeout: 300_000 }, () => {
  let here: Awaited<ReturnType<typeof tour>>;
  test("the checkout gives what the others are compared with", async () => {
    here = await tour([process.execPath, main], join(folder, "checkout"));
    expect(here.asked).toBe(`${here.answers.split("\n")[0]}\n`);
    expect(new Set(here.models).size).toBe(3);
  });

  const oldest = Number(/^>=(\d+)$/.exec(engines.node)![1]);
  const nodes = NODE_VERSIONS.map((each) => ({ each, node: nodeOf(each) }));
  expect(NODE_VERSIONS.some((each) => parseInt(each) === oldest)).toBe(true);

  for (const { each, node } of nodes)
    if (node === undefined) test.skip(`Node ${each}: it cannot be had`, () => {});
    else if (parseInt(each) >= oldest)
      test(`under Node ${each} it gives the models and answers of the checkout`, async () => {
        expect(run([node, "--version"], { cwd: folder }).stdout).toBe(`v${each}\n`);
        expect(await tour([node, program], join(folder, each))).toEqual(here);
      });
    else
      test(`under Node ${each} it says that this is too old`, () => {
        expect(run([node, program, "--version"], { cwd: folder })).toEqual({
          status: 1,
          stdout: "",
          stderr: `edgelabel: needs Node ${oldest} or later; this is v${each}\n`,
        });
      });
});

describe("the command that its messages name", () => {
  const help = (command: string[], options: { cwd: string; env?: NodeJS.ProcessEnv }) => {
    const { status, stdout, stderr } = run(command, options);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    return /^Usage: (.*) serve /m.exec(stdout)![1];
  };
  const empty = (name: string) => {
    mkdirSync(join(folder, name));
    return join(folder, name);
  };

  test("on the PATH it is edgelabel", () => {
    const env = { ...userEnv, PATH: `${join(prefix, "bin")}:${userEnv["PATH"]}` };
    expect(help(["sh", "-c", "edgelabel serve --help"], { cwd: empty("path"), env })).toBe("edgelabel");
  });

  test("in a folder where it is installed it is npx edgelabel, and the demo runs there", () => {
    const cwd = empty("project");
    expect(run(["npm", "install", "--ignore-scripts", tarball], { cwd }).status).toBe(0);
    expect(help(["npx", "edgelabel", "serve", "--help"], { cwd })).toBe("npx edgelabel");
    const { status, stdout } = run(["npx", "edgelabel", "demo", "--once", "--port", "0"], { cwd });
    expect(status).toBe(0);
    expect(stdout).toContain(
      "\n$ npx edgelabel train node_modules/edgelabel/build/demo/messages.tsv -o node_modules/edgelabel/build/demo.wasm\n",
    );
    expect(stdout).toContain("\n  npx edgelabel ask 'a text' --broker mqtt://127.0.0.1:");
    expect(
      stdout.match(/^\$ npx edgelabel ask .*\n(?:lights|climate|music|alarm|fault|weather)\t0\.\d{6}$/gm),
    ).toHaveLength(8);
  }, 300_000);

  test("in the checkout it is npx edgelabel, too", () => {
    expect(help(["npx", "edgelabel", "serve", "--help"], { cwd: join(checkout, "docs") })).toBe("npx edgelabel");
  });
});

describe("the library in an empty folder", { timeout: 300_000 }, () => {
  const cwd = join(folder, "library");
  const at = (name: string): string => join(cwd, name);
  const options = { name: "lamps", epochs: 8, embeddingDim: 16, units: 8 };
  beforeAll(() => {
    mkdirSync(cwd);
    expect(run(["npm", "install", "--ignore-scripts", tarball], { cwd }).status).toBe(0);
    writeFileSync(at("lamps.tsv"), LAMPS.join(""));
    const train = ["npx", "edgelabel", "train", "lamps.tsv", "-o", "lamps.wasm", ...SMALL];
    expect(run(train, { cwd })).toMatchObject({ status: 0, stderr: "" });
  }, 300_000);

  test("imported in Node, trains the model of the command line and opens it", () => {
    writeFileSync(
      at("node.mjs"),
      `import { readFile, writeFile } from "node:fs/promises";
      import { open, parse, train } from "edgelabel";
      const texts = parse(await readFile("lamps.tsv"), "lamps.tsv");
      await writeFile("node.wasm", await (await train(texts, ${JSON.stringify(options)})).wasm());
      console.log((await open("node.wasm")).classify("light the hall").label);`,
    );
    const { status, stdout, stderr } = run([process.execPath, "node.mjs"], { cwd });
    expect([status, stderr]).toEqual([0, ""]);
    expect(stdout).toBe(
      `${run(["npx", "edgelabel", "predict", "lamps.wasm", "light the hall"], { cwd }).stdout.split("\t")[0]}\n`,
    );
    expect(digest(at("node.wasm"))).toBe(digest(at("lamps.wasm")));
  });

  const executablePath = findChromium();
  test.skipIf(!executablePath)("bundled by esbuild, trains the same bytes in a worker of Chromium", async () => {
    writeFileSync(
      at("worker.js"),
      `import { open, parse, train } from "edgelabel";
      onmessage = async ({ data }) => {
        const trained = await train(parse(data, "lamps.tsv"), ${JSON.stringify(options)});
        const wasm = await trained.wasm();
        postMessage({ wasm, label: (await open(wasm)).classify("light the hall").label });
      };`,
    );
    await build({
      entryPoints: [at("worker.js")],
      outfile: at("bundle.js"),
      bundle: true,
      format: "esm",
      logLevel: "silent",
    });
    const server = createServer(({ url }, response) => {
      const file = { "/bundle.js": "bundle.js", "/lamps.tsv": "lamps.tsv" }[url!];
      response.setHeader("content-type", url === "/bundle.js" ? "text/javascript" : "text/html");
      response.end(file === undefined ? "<!doctype html>" : readFileSync(at(file)));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => void server.close());
    const browser = await launchChromium(executablePath!);
    onTestFinished(() => browser.close());
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
    // As text, since the test runner rewrites what a function imports.
    const { wasm, label } = (await page.evaluate(`(async () => {
      const worker = new Worker("/bundle.js", { type: "module" });
      const answer = new Promise((resolve, reject) => Object.assign(worker, { onmessage: resolve, onerror: reject }));
      worker.postMessage(new Uint8Array(await (await fetch("/lamps.tsv")).arrayBuffer()));
      const { data } = await answer;
      return { wasm: Array.from(data.wasm), label: data.label };
    })()`)) as { wasm: number[]; label: string };
    expect(Buffer.from(wasm).equals(readFileSync(at("lamps.wasm")))).toBe(true);
    expect(label).toBe("on");
  });
});

test("a package without its build says so, and how to build it", () => {
  const bare = join(folder, "bare");
  mkdirSync(join(bare, "bin"), { recursive: true });
  for (const file of ["package.json", "bin/edgelabel.js"]) writeFileSync(join(bare, file), read(join(checkout, file)));
  expect(run([process.execPath, "bin/edgelabel.js", "train"], { cwd: bare })).toEqual({
    status: 1,
    stdout: "",
    stderr: `edgelabel: ${join(bare, "build/host/main.js")} is missing: this package was packed without being built.\nIn a checkout of edgelabel, run: npm ci --ignore-scripts && npm run build && npm pack\n`,
  });
  expect(existsSync(program) && statSync(program).mode & 0o111).toBeTruthy();
});
