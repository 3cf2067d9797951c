// Puts Apache ActiveMQ Artemis, a broker that clusters and speaks MQTT 5, into the user's
// cache: its jars of one pinned version, through Maven. Prints the folder. Running it
// needs a Java of version 17 or later.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const VERSION = "2.42.0";
const ARTIFACTS = ["artemis-cli", "artemis-mqtt-protocol"];

export const artemisFolder = join(
  process.env.XDG_CACHE_HOME || join(homedir(), ".cache"),
  "edgelabel",
  `artemis-${VERSION}`,
);

export function fetchArtemis() {
  for (const program of ["java", "mvn"])
    if (spawnSync(program, ["-version"]).error) throw new Error(`${program} is not installed`);
  if (existsSync(artemisFolder)) return artemisFolder;
  mkdirSync(dirname(artemisFolder), { recursive: true });
  const work = mkdtempSync(`${artemisFolder}-`);
  try {
    const dependencies = ARTIFACTS.map(
      (artifact) =>
        `<dependency><groupId>org.apache.activemq</groupId><artifactId>${artifact}</artifactId><version>${VERSION}</version></dependency>`,
    ).join("");
    writeFileSync(
      join(work, "pom.xml"),
      `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
      <groupId>edgelabel</groupId><artifactId>test-broker</artifactId><version>1</version><dependencies>${dependencies}</dependencies></project>`,
    );
    execFileSync(
      "mvn",
      ["--quiet", "--batch-mode", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=jars"],
      { cwd: work, stdio: ["ignore", "pipe", "pipe"], timeout: 300_000 },
    );
    // Two test runs may fetch at the same time; the first one to finish wins.
    if (!existsSync(artemisFolder)) renameSync(join(work, "jars"), artemisFolder);
    return artemisFolder;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    process.stdout.write(`${fetchArtemis()}\n`);
  } catch (error) {
    process.stderr.write(`fetch-artemis: ${error.stdout?.toString() || error.message}\n`);
    process.exitCode = 1;
  }
}
