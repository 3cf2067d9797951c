// Before the tests: fetches every program that they run beside Node. What cannot be had is
// named loudly; its tests then skip, and under CI=true the run fails here.
import { fetchChromium } from "./fetch-chromium.mjs";
import { fetchMosquitto } from "./fetch-mosquitto.mjs";
import { fetchWasmtime } from "./fetch-wasmtime.mjs";

for (const [name, fetch] of Object.entries({
  wasmtime: fetchWasmtime,
  Mosquitto: fetchMosquitto,
  Chromium: fetchChromium,
})) {
  try {
    process.stdout.write(`${name}: ${await fetch()}\n`);
  } catch (error) {
    process.stderr.write(`\n*** ${name} cannot be had: ${error.message}\n*** Its tests are skipped.\n\n`);
    if (process.env.CI === "true") process.exitCode = 1;
  }
}
