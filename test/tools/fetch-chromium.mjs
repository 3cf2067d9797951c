// Finds Chromium: $CHROMIUM, else the PATH, else, as root on Debian and its children, the
// distribution's package. Prints the path.
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

const names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

function installed() {
  const folders = [...(process.env.PATH ?? "").split(delimiter), "/usr/bin"];
  return (
    process.env.CHROMIUM ||
    folders.flatMap((folder) => names.map((name) => join(folder, name))).find((path) => existsSync(path))
  );
}

export function fetchChromium() {
  const found = installed();
  if (found) return found;
  const apt = (...args) =>
    execFileSync("apt-get", args, {
      stdio: ["ignore", "ignore", "inherit"],
      timeout: 600_000,
      env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
    });
  apt("update");
  apt("install", "-y", "--no-install-recommends", "chromium");
  return installed();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    process.stdout.write(`${fetchChromium()}\n`);
  } catch (error) {
    process.stderr.write(
      `Chromium cannot be had: ${error.message}\nInstall it, or set CHROMIUM to the program's path.\n`,
    );
    process.exitCode = 1;
  }
}
