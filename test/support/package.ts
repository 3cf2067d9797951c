// The package as people get it: the release's tarball, installed by npm in a folder of its own.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const checkout = fileURLToPath(new URL("../../", import.meta.url));

/** As for a user without a network: npm's settings of this process, such as those that `npm test` hands on, are left out. */
export const userEnv: NodeJS.ProcessEnv = {
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name))),
  npm_config_offline: "true",
  npm_config_update_notifier: "false",
  npm_config_fund: "false",
  npm_config_audit: "false",
};

/** Makes the files of a release from the checkout as it is built; returns the tarball's path. */
export function makeRelease(folder: string): string {
  execFileSync(process.execPath, [join(checkout, "deploy/release.mjs"), folder], { stdio: ["ignore", "pipe", "pipe"] });
  return join(
    folder,
    readdirSync(folder).find((name) => name.endsWith(".tgz"))!,
  );
}

export interface Ran {
  status: number | null;
  stdout: string;
  stderr: string;
}

export function run(
  command: readonly string[],
  { cwd, input = "", env = userEnv }: { cwd: string; input?: string; env?: NodeJS.ProcessEnv },
): Ran {
  const { status, stdout, stderr } = spawnSync(command[0]!, command.slice(1), {
    cwd,
    input,
    env,
    encoding: "utf8",
    maxBuffer: 2 ** 26,
  });
  return { status, stdout, stderr };
}

/** `npm install --global --ignore-scripts` into a prefix of its own; returns the command's path. */
export function installGlobally(tarball: string, prefix: string): string {
  mkdirSync(prefix, { recursive: true });
  const { status, stderr } = run(["npm", "install", "--global", "--ignore-scripts", "--prefix", prefix, tarball], {
    cwd: prefix,
  });
  if (status !== 0) throw new Error(stderr);
  return join(prefix, "bin/edgelabel");
}
