// Before the tests: fetches every program that they run beside Node. What cannot be had is
// named loudly; its tests then skip, and under CI=true the run fails here.
import { fetchChromium } from "./fetch-chromium.mjs";
import { fetchMosquitto } from "./fetch-mosquitto.mjs";
import { fetchNodeRed } from "./fetch-node-red.mjs";
import { fetchNode, NODE_VERSIONS } from "./fetch-node.mjs";
import { fetchOpenapi } from "./fetch-openapi.mjs";
import { bun, deno, python } from "./fetch-runtimes.mjs";
import { fetchWyoming } from "./fetch-wyoming.mjs";
import { fetchWasmtime } from "./fetch-wasmtime.mjs";

for (const [name, fetch] of Object.entries({
  wasmtime: fetchWasmtime,
  Mosquitto: fetchMosquitto,
  Chromium: fetchChromium,
  "the versions of Node": () => NODE_VERSIONS.map(fetchNode).join(" "),
  "Node-RED": fetchNodeRed,
  "Python's wasmtime": () => python()[1].replace("PYTHONPATH=", ""),
  "OpenAPI's linter and client": fetchOpenapi,
  "Python's wyoming": fetchWyoming,
  Deno: () => deno()[0],
  Bun: () => bun()[0],
})) {
  try {
    process.stdout.write(`${name}: ${await fetch()}\n`);
  } catch (error) {
    process.stderr.write(`\n*** ${name} cannot be had: ${error.message}\n*** Its tests are skipped.\n\n`);
    if (process.env.CI === "true") process.exitCode = 1;
  }
}
