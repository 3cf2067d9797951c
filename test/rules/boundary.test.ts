// The rules that keep the project's rooms apart, read off the sources.
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import * as abi from "../../assembly/abi.ts";

const root = new URL("../../", import.meta.url);

function sources(folder: string): { path: string; code: string }[] {
  return readdirSync(fileURLToPath(new URL(folder, root)), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts") && !name.endsWith(".d.ts"))
    .map((name) => {
      const path = `${folder}/${name}`;
      // Comments may speak of anything.
      return {
        path,
        code: readFileSync(new URL(path, root), "utf8").replaceAll(/\/\*[\s\S]*?\*\/|(?<=^|\s)\/\/.*$/gm, ""),
      };
    })
    .sort((a, b) => a.path.localeCompare(b.path));
}

const host = sources("host");
const assembly = sources("assembly").filter(({ path }) => path !== "assembly/testing.ts");
const map = readFileSync(new URL("ARCHITECTURE.md", root), "utf8");

describe("the host has no mathematics", () => {
  test.each(host)("$path", ({ path, code }) => {
    // How sure counted figures are is statistics of whole numbers, which know of no model.
    if (path !== "host/report/certainty.ts")
      expect(code.match(/Math\.(exp|log|tanh|sqrt|pow|sin|cos|hypot)\b|softmax\(|argmax\(/g) ?? []).toEqual([]);
    if (!["host/training/module.ts", "host/training/trainer.ts"].includes(path) && !path.startsWith("host/keras/"))
      expect(code.match(/\b(Float32Array|Float64Array|Int8Array|Int16Array)\b/g) ?? []).toEqual([]);
    if (path !== "host/model/engine.ts" && path !== "host/training/module.ts")
      expect(code.match(/\bWebAssembly\.|memory\.buffer/g) ?? []).toEqual([]);
  });
});

test("the host spreads no list of any length into a call, which overflows the stack", () => {
  const spreads = host.flatMap(({ path, code }) =>
    (
      code.match(/\b(?:Math\.max|Math\.min|push|unshift|fromCharCode|fromCodePoint)\((?:[^()[{]|\([^()]*\))*\.\.\./g) ??
      []
    ).map((call) => `${path}: ${call}`),
  );
  expect(spreads).toEqual([]);
});

describe("the engine has no I/O and no heap", () => {
  test.each(assembly)("$path", ({ path, code }) => {
    expect(
      code.match(/\bnew [A-Z]\w*|\bthrow\b|\bMap<|\bSet<|\bArray<(?!u)|\bconsole\b|\bDate\b|\bMath\.|\bMathf\./g) ?? [],
    ).toEqual([]);
    if (path !== "assembly/wasi.ts") expect(code).not.toContain("@external");
    if (path !== "assembly/arena.ts") expect(code).not.toContain("memory.grow");
    // Text that goes out is made in two places, cleaning knows some markup, and composing letters; elsewhere there are only numbers.
    if (
      !["assembly/wasi.ts", "assembly/render.ts", "assembly/text/clean.ts", "assembly/text/compose.ts"].includes(path)
    ) {
      const literals =
        code
          .replaceAll(/(import|export)[^;]*? from "[^"]*";/g, "")
          .replaceAll(/offsetof<\w+>\("\w+"\)/g, "")
          .match(/"[^"\n]*"|`[^`]*`/g) ?? [];
      expect(literals).toEqual([]);
    }
  });
});

test("what both sides know stands in assembly/abi.ts only", () => {
  const imports = host.flatMap(({ path, code }) =>
    [...code.matchAll(/from "([^"]*assembly\/[^"]*)"/g)].map(([, from]) => ({
      path,
      from: from!.replace(/^(\.\.\/)+/, ""),
    })),
  );
  expect(imports.filter(({ from }) => from !== "assembly/abi.ts")).toEqual([]);
  expect(imports.length).toBeGreaterThan(3);
  const known = Object.keys(abi);
  const declared = [...host, ...assembly]
    .filter(({ path }) => path !== "assembly/abi.ts")
    .flatMap(({ path, code }) =>
      [...code.matchAll(/\b(?:const|let) ([A-Z][A-Z0-9]*_[A-Z0-9_]+)\b/g)].map(([, name]) => `${path}: ${name}`),
    );
  expect(declared.length).toBeGreaterThan(20);
  expect(declared.filter((line) => known.includes(line.split(": ")[1]!))).toEqual([]);
  // The magic and the version as numbers anywhere else would be a second source.
  expect(
    [...host, ...assembly]
      .filter(({ path, code }) => path !== "assembly/abi.ts" && /0x4d424c45|0x45, ?0x4c/i.test(code))
      .map(({ path }) => path),
  ).toEqual([]);
});

test("comments name only files that exist", () => {
  const files = ["assembly", "host", "test", "web"].flatMap((folder) =>
    readdirSync(fileURLToPath(new URL(folder, root)), { recursive: true, encoding: "utf8" }).map(
      (path) => `/${folder}/${path.replaceAll("\\", "/")}`,
    ),
  );
  const missing = [...host, ...assembly].flatMap(({ path }) => {
    const comments = readFileSync(new URL(path, root), "utf8").match(/\/\*[\s\S]*?\*\/|(?<=^|\s)\/\/.*$/gm) ?? [];
    const named = comments.flatMap((comment) => comment.match(/[\w-]+(?:\/[\w-]+)*\.ts\b/g) ?? []);
    return named.filter((name) => !files.some((file) => file.endsWith(`/${name}`))).map((name) => `${path}: ${name}`);
  });
  expect(missing).toEqual([]);
});

describe("the file map of ARCHITECTURE.md", () => {
  test("names only what exists", () => {
    const named = [...map.matchAll(/`((?:assembly|host)\/[\w./-]+)`/g)].map(([, path]) => path!);
    expect(named.filter((path) => !existsSync(new URL(path, root)))).toEqual([]);
  });

  test("leaves out no stage of the engine", () => {
    const plumbing = [
      "abi",
      "arena",
      "engine",
      "index",
      "train/index",
      "train/growable",
      "train/random",
      "testing",
    ].map((name) => `assembly/${name}.ts`);
    const missing = assembly
      .map(({ path }) => path)
      .filter((path) => !plumbing.includes(path) && !map.includes(`\`${path}\``));
    expect(missing).toEqual([]);
  });

  test("leaves out no stage of the host", () => {
    const plumbing = [
      "artefact",
      "errors",
      "escape",
      "figures",
      "index",
      "names",
      "program-name",
      "progress",
      "text",
      "values",
      "version",
      "model/status",
      "model/worker",
      "training/worker",
      "service/limits",
      "service/listen",
      "service/log",
      "service/mqtt/access",
      "service/mqtt/quiet",
    ].map((name) => `host/${name}.ts`);
    const folders = ["host/commands/", "host/keras/", "host/onnx/"].filter((folder) => map.includes(`\`${folder}\``));
    const missing = host
      .map(({ path }) => path)
      .filter(
        (path) =>
          !plumbing.includes(path) &&
          !folders.some((folder) => path.startsWith(folder)) &&
          !map.includes(`\`${path}\``),
      );
    expect(missing).toEqual([]);
  });
});
