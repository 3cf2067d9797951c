// deploy/Containerfile: the image is built of a release's tarball and run, with what it says that it needs and
// no more. `npm run test:long` only: the tools are large.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { startBroker } from "../../host/service/broker/broker.ts";
import { tinyDeployable } from "../support/models.ts";
import { freePort } from "../support/mosquitto.ts";
import { checkout, makeRelease } from "../support/package.ts";
import { edgelabel } from "../support/program.ts";
import { until } from "../support/wait.ts";
import { fetchBuildah } from "../tools/fetch-buildah.mjs";
import { describeWith, onlyLong } from "./needs.ts";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-container-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describeWith("the container", "Buildah", onlyLong(fetchBuildah), ({ command: [program, ...buildahArgs], base }) => {
  const store = ["--root", join(folder, "store"), "--runroot", join(folder, "run"), "--storage-driver", "vfs"];
  const env = { ...process.env, CONTAINERS_REGISTRIES_CONF: join(folder, "registries.conf") };
  const command = (args: readonly string[]) => {
    const [verb, ...rest] = args;
    const isolated = verb === "bud" || verb === "run" ? ["--isolation", "chroot"] : [];
    const policy = verb === "bud" || verb === "commit" ? ["--signature-policy", join(folder, "policy.json")] : [];
    return [...buildahArgs, ...store, verb!, ...isolated, ...policy, ...rest];
  };
  const buildah = (...args: string[]) =>
    execFileSync(program!, command(args), { env, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trim();
  let config: { Entrypoint: string[]; Cmd: string[]; User: string; Env: string[]; Healthcheck: { Test: string[] } };

  beforeAll(() => {
    writeFileSync(join(folder, "registries.conf"), "");
    writeFileSync(join(folder, "policy.json"), '{ "default": [{ "type": "insecureAcceptAnything" }] }');
    const node = buildah("from", "scratch");
    buildah("copy", "--quiet", node, base, "/");
    buildah("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", node);
    buildah("commit", "--quiet", node, "docker.io/library/node:20-slim");
    const release = join(folder, "release");
    makeRelease(release);
    // The registry, and whom to trust there, are this machine's.
    const npm = (key: string) => execFileSync("npm", ["config", "get", key], { encoding: "utf8" }).trim();
    const cafile = npm("cafile");
    writeFileSync(
      join(folder, "npmrc"),
      `registry=${npm("registry")}\nprefer-offline=true\n${cafile === "null" ? "" : "cafile=/ca.pem\n"}`,
    );
    buildah(
      ...[
        "bud",
        "--pull-never",
        "--format",
        "docker",
        "--file",
        join(checkout, "deploy/Containerfile"),
        "--tag",
        "edgelabel",
      ],
      ...["--volume", `${join(folder, "npmrc")}:/root/.npmrc:ro`, "--volume", `${join(homedir(), ".npm")}:/root/.npm`],
      ...(cafile === "null" ? [] : ["--volume", `${cafile}:/ca.pem:ro`]),
      release,
    );
    const { Docker } = JSON.parse(buildah("inspect", "--type", "image", "edgelabel")) as {
      Docker: { config: typeof config };
    };
    config = Docker.config;
  }, 900_000);

  test("it serves as its user, answers, and says that it is healthy", async () => {
    expect(config.User).toBe("node");
    const broker = await startBroker({ port: 0 });
    onTestFinished(() => broker.close());
    const http = await freePort();
    mkdirSync(join(folder, "models"));
    writeFileSync(join(folder, "models/model.wasm"), await tinyDeployable());
    writeFileSync(
      join(folder, "edgelabel.json"),
      JSON.stringify({ node: "gate-1", broker: broker.url, models: ["models/model.wasm"], http }),
    );
    for (const path of [folder, join(folder, "models")]) chmodSync(path, 0o755);
    const container = buildah("from", "--pull-never", "edgelabel");
    const inside = (args: string[]) =>
      command([
        ...["run", "--cap-drop", "all", "--env", `EDGELABEL_HEALTH=http://127.0.0.1:${http}/healthz`],
        ...["--volume", `${join(folder, "edgelabel.json")}:/etc/edgelabel/edgelabel.json:ro`],
        ...["--volume", `${join(folder, "models")}:/etc/edgelabel/models:ro`, container, "--", ...args],
      ]);
    const service = spawn(program!, inside([...config.Entrypoint, ...config.Cmd]), { env });
    onTestFinished(() => void service.kill("SIGKILL"));
    let said = "";
    for (const stream of [service.stdout, service.stderr])
      stream.on("data", (chunk: Buffer) => (said += chunk.toString()));
    await until(() => said.includes('"msg":"serving"') || service.exitCode !== null, 120_000);
    expect(said).toContain('"msg":"serving"');
    expect((await edgelabel(["ask", "turn on the light", "--broker", broker.url, "--node", "gate-1"])).stdout).toMatch(
      /^light\t/,
    );
    const [kind, ...health] = config.Healthcheck.Test;
    expect(kind).toBe("CMD");
    execFileSync(program!, inside(health), { env });
    expect(execFileSync(program!, inside(["id", "-u"]), { env, encoding: "utf8" })).toBe("1000\n");
    service.kill("SIGTERM");
    await once(service, "exit");
  }, 300_000);
});
