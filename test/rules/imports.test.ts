// Which folder may import which, as ARCHITECTURE.md says: imports run down, and never in a circle.
import { readdirSync, readFileSync } from "node:fs";
import { posix } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const root = new URL("../../", import.meta.url);

/** From the bottom up; a file belongs to the longest of these that its path begins with. */
const FLOORS = {
  host: [
    ["host/"],
    ["host/files/"],
    ["host/model/"],
    ["host/data/"],
    ["host/training/"],
    ["host/keras/", "host/onnx/", "host/report/"],
    ["host/library/"],
    ["host/registry/"],
    ["host/service/"],
    ["host/commands/"],
    ["host/main.ts", "host/index.ts"],
  ],
  assembly: [
    ["assembly/abi.ts", "assembly/arena.ts", "assembly/hash.ts"],
    ["assembly/text/"],
    ["assembly/network/"],
    ["assembly/"],
    ["assembly/train/"],
    ["assembly/testing.ts"],
  ],
};

function imports(folder: string): { from: string; to: string }[] {
  return readdirSync(fileURLToPath(new URL(folder, root)), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts") && !name.endsWith(".d.ts"))
    .flatMap((name) => {
      const from = `${folder}/${name}`;
      const code = readFileSync(new URL(from, root), "utf8");
      return [...code.matchAll(/(?:\bfrom|\bimport)\s*\(?"(\.[^"]*)"/g)].map(([, path]) => {
        const to = posix.join(posix.dirname(from), path!);
        return { from, to: to.endsWith(".ts") || to.endsWith(".js") ? to : `${to}.ts` };
      });
    });
}

function floorOf(path: string, floors: readonly (readonly string[])[]): number {
  let best = { floor: -1, length: 0 };
  floors.forEach((prefixes, floor) => {
    for (const prefix of prefixes)
      if (path.startsWith(prefix) && prefix.length > best.length) best = { floor, length: prefix.length };
  });
  return best.floor;
}

/** Imports that run up, or across to another folder of the same floor. */
function wrong(pairs: readonly { from: string; to: string }[], floors: readonly (readonly string[])[]): string[] {
  const room = (path: string) =>
    floors.flat().reduce((a, b) => (path.startsWith(b) && b.length > a.length ? b : a), "");
  return pairs
    .filter(({ from, to }) => {
      const [own, other] = [floorOf(from, floors), floorOf(to, floors)];
      return other > own || (other === own && room(from) !== room(to));
    })
    .map(({ from, to }) => `${from} -> ${to}`);
}

function circles(pairs: readonly { from: string; to: string }[]): string[] {
  const next = new Map<string, string[]>();
  for (const { from, to } of pairs) next.set(from, [...(next.get(from) ?? []), to]);
  const state = new Map<string, "open" | "done">();
  const found: string[] = [];
  const visit = (path: string, trail: readonly string[]): void => {
    if (state.get(path) === "done") return;
    if (state.get(path) === "open") {
      found.push([...trail.slice(trail.indexOf(path)), path].join(" -> "));
      return;
    }
    state.set(path, "open");
    for (const to of next.get(path) ?? []) visit(to, [...trail, path]);
    state.set(path, "done");
  };
  for (const from of next.keys()) visit(from, []);
  return found;
}

test("of the parts that a library can have, only host/files/ reads and writes files", () => {
  const found = ["files", "model", "data", "training", "keras", "onnx", "report"].flatMap((part) =>
    readdirSync(new URL(`host/${part}/`, root))
      .filter((name) => readFileSync(new URL(`host/${part}/${name}`, root), "utf8").includes('from "node:fs'))
      .map((name) => `${part}/${name}`),
  );
  expect(found.length).toBeGreaterThan(2);
  expect(found.filter((path) => !path.startsWith("files/"))).toEqual([]);
});

test("an error is printed without loading more than a command does", () => {
  const all = imports("host");
  const loaded = new Set(["host/commands/terminal.ts"]);
  for (const path of loaded) for (const { from, to } of all) if (from === path) loaded.add(to);
  expect([...loaded].filter((path) => /^host\/.+\//.test(path))).toEqual(["host/commands/terminal.ts"]);
});

describe.each(Object.entries(FLOORS))("%s", (folder, floors) => {
  const all = imports(folder).filter(({ to }) => to.startsWith(`${folder}/`));

  test("imports run down", () => {
    expect(all.length).toBeGreaterThan(50);
    expect(wrong(all, floors)).toEqual([]);
  });

  test("there is no circle", () => {
    expect(circles(all)).toEqual([]);
  });

  test("an import that runs up, or in a circle, is found", () => {
    const up = { from: `${floors[0]![0]!}x.ts`.replace(/\.tsx\.ts$/, ".ts"), to: `${floors.at(-1)![0]!}` };
    expect(wrong([up], floors)).toHaveLength(1);
    expect(circles([up, { from: up.to, to: up.from }])).toHaveLength(1);
  });
});
