// A cluster of two Artemis brokers for tests, each with MQTT on a port of its own.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { until } from "./wait.ts";
import { accepts, freePort } from "./mosquitto.ts";

const START_MS = 100_000;

export interface ClusterNode {
  url: string;
  /** Ends it at once, as a power cut would. */
  kill(): Promise<void>;
}

/** Starts both from the folder of their jars; resolves when both take connections. They find each other soon after. */
export async function startCluster(jars: string): Promise<ClusterNode[]> {
  const folder = mkdtempSync(join(tmpdir(), "edgelabel-artemis-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  const [mqttPorts, corePorts] = [
    [await freePort(), await freePort()],
    [await freePort(), await freePort()],
  ];
  return Promise.all(
    [0, 1].map(async (i) => {
      const home = join(folder, String(i));
      const etc = join(home, "etc");
      mkdirSync(etc, { recursive: true });
      const schema = 'xmlns="http://activemq.apache.org/schema"';
      writeFileSync(
        join(etc, "bootstrap.xml"),
        `<broker ${schema}><jaas-security domain="none"/><server configuration="file:${join(etc, "broker.xml")}"/></broker>`,
      );
      writeFileSync(join(etc, "management.xml"), `<management-context ${schema}/>`);
      writeFileSync(join(etc, "broker.xml"), brokerXml(`node-${i}`, mqttPorts[i]!, corePorts[i]!, corePorts[1 - i]!));
      const child = spawn(
        "java",
        [
          "-Xmx256m",
          "-XX:+UseSerialGC",
          "-XX:TieredStopAtLevel=1",
          `-Dartemis.home=${home}`,
          `-Dartemis.instance=${home}`,
          `-Dartemis.instance.etc=${etc}`,
          "-cp",
          join(jars, "*"),
          "org.apache.activemq.artemis.cli.Artemis",
          "run",
          `xml:${join(etc, "bootstrap.xml")}`,
        ],
        { cwd: home, stdio: ["ignore", "pipe", "pipe"] },
      );
      const exited = once(child, "exit");
      let output = "";
      for (const stream of [child.stdout, child.stderr])
        stream.on("data", (chunk: Buffer) => {
          output += chunk.toString();
        });
      const kill = async () => {
        child.kill("SIGKILL");
        await exited;
      };
      onTestFinished(kill);
      await until(async () => {
        if (child.exitCode !== null) throw new Error(`Artemis does not start: ${output}`);
        return accepts(mqttPorts[i]!);
      }, START_MS);
      return { url: `mqtt://127.0.0.1:${mqttPorts[i]}`, kill };
    }),
  );
}

function brokerXml(name: string, mqttPort: number, ownPort: number, otherPort: number): string {
  return `<configuration xmlns="urn:activemq"><core xmlns="urn:activemq:core">
    <name>${name}</name>
    <persistence-enabled>false</persistence-enabled>
    <security-enabled>false</security-enabled>
    <cluster-user>test</cluster-user><cluster-password>test</cluster-password>
    <connectors>
      <connector name="own">tcp://127.0.0.1:${ownPort}</connector>
      <connector name="other">tcp://127.0.0.1:${otherPort}</connector>
    </connectors>
    <acceptors>
      <acceptor name="core">tcp://127.0.0.1:${ownPort}?protocols=CORE</acceptor>
      <acceptor name="mqtt">tcp://127.0.0.1:${mqttPort}?protocols=MQTT</acceptor>
    </acceptors>
    <cluster-connections>
      <cluster-connection name="cluster">
        <connector-ref>own</connector-ref>
        <message-load-balancing>ON_DEMAND</message-load-balancing>
        <max-hops>1</max-hops>
        <static-connectors><connector-ref>other</connector-ref></static-connectors>
      </cluster-connection>
    </cluster-connections>
    <address-settings><address-setting match="#"><redistribution-delay>0</redistribution-delay></address-setting></address-settings>
  </core></configuration>`;
}
