// Makes the files of a release from the checkout as it is built; `npm run release` builds it first.
//   node deploy/release.mjs [FOLDER]        (build/release)
//
//   edgelabel-VERSION.tgz            the package for `npm install`, with the packages that it needs, as package-lock.json
//                                    has them: nothing else is downloaded, and one digest stands for all
//   node-red-contrib-edgelabel-VERSION.tgz   the nodes for Node-RED, which need the package
//   edgelabel-VERSION.cdx.json       bill of materials, CycloneDX
//   edgelabel-VERSION.licences.txt   licences of what is in it
//   SHA256SUMS                       of these four
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** Parts of its library are compiled into engine.wasm and trainer.wasm. */
const COMPILED_IN = "node_modules/assemblyscript";

const root = fileURLToPath(new URL("../", import.meta.url));
const folder = resolve(process.argv[2] ?? join(root, "build/release"));
const lock = readJson(join(root, "package-lock.json"));
const start = `${lock.name}-${lock.version}`;
/** What npm installs with the package. */
const installed = Object.entries(lock.packages).filter(([path, { dev, devOptional }]) => path && !dev && !devOptional);

rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
const work = mkdtempSync(join(tmpdir(), "edgelabel-release-"));
try {
  npm(root, "pack", "--silent", "--ignore-scripts", "--pack-destination", work);
  execFileSync("tar", ["-xzf", `${start}.tgz`], { cwd: work });
  // The bill of materials calls it by the folder's name.
  const unpacked = join(work, lock.name);
  renameSync(join(work, "package"), unpacked);
  const { scripts: _, devDependencies: __, ...manifest } = readJson(join(unpacked, "package.json"));
  writeJson(join(unpacked, "package.json"), { ...manifest, bundleDependencies: true });
  // Not packed, but the bill of materials has its digests.
  writeJson(join(unpacked, "package-lock.json"), {
    ...lock,
    packages: { "": manifest, ...Object.fromEntries(installed) },
  });
  for (const [path] of installed) {
    const nested = join(root, path, "node_modules");
    cpSync(join(root, path), join(unpacked, path), { recursive: true, filter: (from) => from !== nested });
  }
  npm(unpacked, "pack", "--silent", "--ignore-scripts", "--pack-destination", folder);
  npm(join(root, "integrations/node-red"), "pack", "--silent", "--ignore-scripts", "--pack-destination", folder);
  writeFileSync(
    join(folder, `${start}.cdx.json`),
    npm(unpacked, "sbom", "--package-lock-only", "--sbom-format", "cyclonedx", "--sbom-type", "application"),
  );
} finally {
  rmSync(work, { recursive: true });
}
writeFileSync(
  join(folder, `${start}.licences.txt`),
  [...installed, [COMPILED_IN, lock.packages[COMPILED_IN]]].map(licenceOf).join(`\n${"=".repeat(80)}\n\n`),
);
const sums = readdirSync(folder).map((file) => {
  const digest = createHash("sha256")
    .update(readFileSync(join(folder, file)))
    .digest("hex");
  return `${digest}  ${file}\n`;
});
writeFileSync(join(folder, "SHA256SUMS"), sums.join(""));
process.stdout.write(sums.join(""));

function npm(cwd, ...args) {
  return execFileSync("npm", args, { cwd, encoding: "utf8", maxBuffer: 2 ** 26, stdio: ["ignore", "pipe", "inherit"] });
}

function readJson(path) {
  return JSON.parse(readFileSync(path, "utf8"));
}

function writeJson(path, value) {
  writeFileSync(path, `${JSON.stringify(value, undefined, 2)}\n`);
}

function licenceOf([path, { version, license }]) {
  const files = readdirSync(join(root, path)).filter((file) => /^(licen[cs]e|notice|copyright|thirdparty)/i.test(file));
  return [
    `${path.split("node_modules/").at(-1)} ${version}: ${license}\n`,
    ...files.map((file) => `${readFileSync(join(root, path, file), "utf8").trim()}\n`),
  ].join("\n");
}
