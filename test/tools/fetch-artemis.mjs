// Puts Apache ActiveMQ Artemis, a broker that clusters and speaks MQTT 5, into the user's
// cache: its jars of one pinned version, through Maven. Prints the folder. Running it
// needs a Java of version 17 or later.
import { execFileSync, spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cached } from "./cache.mjs";

const VERSION = "2.42.0";
const ARTIFACTS = ["artemis-cli", "artemis-mqtt-protocol"];

export function fetchArtemis() {
  for (const program of ["java", "mvn"])
    if (spawnSync(program, ["-version"]).error) throw new Error(`${program} is not installed`);
  return cached(`artemis-${VERSION}`, (work) => {
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
    return join(work, "jars");
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    process.stdout.write(`${fetchArtemis()}\n`);
  } catch (error) {
    process.stderr.write(`fetch-artemis: ${error.stdout?.toString() || error.message}\n`);
    process.exitCode = 1;
  }
}
