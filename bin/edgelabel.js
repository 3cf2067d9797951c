#!/usr/bin/env node
// What npm links as `edgelabel`: starts the built program, or says why it cannot. Syntax and imports
// are those of old versions of Node, which would otherwise end in a stack trace.
import { existsSync } from "fs";
import { fileURLToPath } from "url";

const OLDEST_NODE = 18;
const program = new URL("../build/host/main.js", import.meta.url);

function fail(message) {
  process.stderr.write(`edgelabel: ${message}\n`);
  process.exitCode = 1;
}

if (Number(process.versions.node.split(".")[0]) < OLDEST_NODE)
  fail(`needs Node ${OLDEST_NODE} or later; this is ${process.version}`);
else if (!existsSync(program))
  fail(
    `${fileURLToPath(program)} is missing: this package was packed without being built.\n` +
      "In a checkout of edgelabel, run: npm ci --ignore-scripts && npm run build && npm pack",
  );
else import(program.href).then(({ start }) => start());
