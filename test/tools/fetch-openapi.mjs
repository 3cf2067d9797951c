// Puts what reads docs/openapi.json in the tests into the user's cache, through npm: Redocly's linter, a generator of
// types, and the client that takes them. Returns the folder of their packages.
import { join } from "node:path";
import { cached } from "./cache.mjs";
import { npmInstall } from "./npm.mjs";

const PACKAGES = ["openapi-typescript@7.13.0", "openapi-fetch@0.17.0", "@redocly/openapi-core@1.34.24"];

export function fetchOpenapi() {
  const folder = cached(`openapi-${PACKAGES.map((name) => name.split("@").at(-1)).join("-")}`, (work) => {
    npmInstall(work, ...PACKAGES);
  });
  return join(folder, "node_modules");
}
