// deploy/README.md, "Installing", typed as it stands on a machine as Debian lays it out: the package from the
// release's tarball, a Mosquitto that is there already or a new one, and the systemd unit's commands. A folder
// stands for /; of systemctl and apt there are stand-ins that do to Mosquitto what they would.
import { execFileSync, spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { tinyDeployable } from "../support/models.ts";
import { describeMosquitto, freePort, type Mosquitto } from "../support/mosquitto.ts";
import { checkout, makeRelease, userEnv } from "../support/package.ts";
import { startProgram } from "../support/program.ts";
import { until } from "../support/wait.ts";

const page = readFileSync(join(checkout, "deploy/README.md"), "utf8");
const [, INSTALL, OWN_BROKER, NEW_BROKER] =
  /\n## Installing\n([^]*?)\n### You already have a broker\n([^]*?)\n### You have none\n([^]*?)\n## /.exec(page)!;
/** The commands between texts, block by block. */
const blocksOf = (section: string) =>
  section
    .split(/\n(?! {4}|\n)/)
    .map((part) =>
      part
        .split("\n")
        .filter((line) => line.startsWith("    "))
        .map((line) => line.slice(4))
        .join("\n"),
    )
    .filter(Boolean);

const folder = mkdtempSync(join(tmpdir(), "edgelabel-installing-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Where npm installs for all; filled by the first test that gets there. */
const prefix = join(folder, "usr-local");

/** Files that stand for those of the machine's root. */
class Machine {
  readonly root: string;
  readonly home: string;
  private readonly stubs: string;
  private broker: ChildProcess | undefined;
  said = "";
  port = 0;

  private readonly binaries: Mosquitto;

  constructor(name: string, binaries: Mosquitto, tarball: string) {
    this.binaries = binaries;
    this.root = join(folder, name);
    this.home = join(this.root, "root");
    this.stubs = join(folder, `${name}-stubs`);
    for (const path of [this.home, this.stubs, this.path("etc/systemd/system")]) mkdirSync(path, { recursive: true });
    for (const path of [folder, this.root]) chmodSync(path, 0o755);
    cpSync(tarball, join(this.home, "edgelabel-0.0.0.tgz"));
    // What systemctl was told; for Mosquitto it does what the signal or the restart would.
    this.stub(
      "systemctl",
      `echo "$*" >> "${this.root}/systemctl"\nif [ "$1" = reload ]; then kill -HUP "$(cat /run/mosquitto/mosquitto.pid)"; fi`,
    );
    this.stub("apt", `[ "$*" = "install mosquitto" ] && cp -r "${this.root}/package/." "${this.root}"`);
  }

  /** In the folder that stands for it. */
  rooted(text: string): string {
    return text.replaceAll(/(?<![\w.}"'$-])\/(?=(?:etc|run|var)\/)/g, `${this.root}/`);
  }

  path(path: string): string {
    return join(this.root, path);
  }

  read(path: string): string {
    return readFileSync(this.path(path), "utf8");
  }

  private stub(name: string, body: string): void {
    writeFileSync(join(this.stubs, name), `#!/bin/sh\n${this.rooted(body)}\n`, { mode: 0o755 });
  }

  get env(): NodeJS.ProcessEnv {
    return {
      ...userEnv,
      LD_LIBRARY_PATH: [this.path("usr/lib"), this.binaries.env["LD_LIBRARY_PATH"]].filter(Boolean).join(delimiter),
      npm_config_prefix: prefix,
      PATH: [
        join(prefix, "bin"),
        this.stubs,
        dirname(this.binaries.pub),
        dirname(this.binaries.broker),
        userEnv["PATH"],
      ].join(delimiter),
    };
  }

  /** Commands of the page, in one shell that stops at the first one that fails; what they print. */
  type(...blocks: string[]): string {
    const { status, stdout, stderr } = spawnSync("sh", ["-euc", this.rooted(blocks.join("\n"))], {
      cwd: this.home,
      env: this.env,
      encoding: "utf8",
    });
    expect({ status, stderr: status === 0 ? "" : stderr }).toEqual({ status: 0, stderr: "" });
    return stdout;
  }

  /** What Debian's package puts there, with its paths in this folder. */
  debian(to = ""): void {
    const from = resolve(dirname(this.binaries.broker), "../..");
    cpSync(join(from, "etc/mosquitto"), this.path(join(to, "etc/mosquitto")), { recursive: true });
    const conf = this.path(join(to, "etc/mosquitto/mosquitto.conf"));
    writeFileSync(conf, this.rooted(readFileSync(conf, "utf8")));
    for (const each of ["run/mosquitto", "var/lib/mosquitto", "var/log/mosquitto"])
      mkdirSync(this.path(join(to, each)), { recursive: true });
    // The plugin, and what it is linked with, where the user can read it that Mosquitto runs as.
    const library = ["usr/lib", "usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu"]
      .map((each) => join(from, each))
      .find((each) => existsSync(join(each, "mosquitto_dynamic_security.so")))!;
    mkdirSync(this.path(join(to, "usr/lib")), { recursive: true });
    for (const name of readdirSync(library).filter((each) =>
      /^(?:mosquitto_dynamic_security\.so|libcjson\.so\.1)$/.test(each),
    ))
      copyFileSync(join(library, name), this.path(join(to, "usr/lib", name)));
  }

  /** Starts Mosquitto as Debian's unit does. */
  async startMosquitto(): Promise<void> {
    // Started by root, Mosquitto becomes another user before it reads its files.
    const user = ["mosquitto", "nobody"].find((each) => spawnSync("id", [each]).status === 0)!;
    if (process.getuid!() === 0)
      execFileSync("chown", [
        "-R",
        user,
        ...["run", "var/lib", "var/log"].map((each) => this.path(join(each, "mosquitto"))),
      ]);
    const broker = spawn(this.binaries.broker, ["-c", this.path("etc/mosquitto/mosquitto.conf")], {
      env: this.env,
      stdio: "ignore",
    });
    onTestFinished(() => void broker.kill("SIGKILL"));
    this.broker = broker;
    await until(() => broker.exitCode !== null || this.log().includes(" running\n"));
    expect(broker.exitCode, this.log()).toBe(null);
  }

  async stopMosquitto(): Promise<void> {
    this.broker!.kill();
    await once(this.broker!, "exit");
  }

  log(): string {
    return existsSync(this.path("var/log/mosquitto/mosquitto.log")) ? this.read("var/log/mosquitto/mosquitto.log") : "";
  }

  /** Every file below a folder, by its path. */
  files(path: string): Record<string, string> {
    return Object.fromEntries(
      readdirSync(this.path(path), { recursive: true, encoding: "utf8" })
        .map((name) => join(path, name))
        .filter((name) => statSync(this.path(name)).isFile())
        .map((name) => [name, this.read(name)]),
    );
  }

  /** The unit as it was installed: its check, then the service itself. */
  async startUnit() {
    const unit = this.read("etc/systemd/system/edgelabel.service");
    const line = (key: string) => new RegExp(`^${key}=-?(.*)$`, "m").exec(unit)![1]!;
    const env = { ...this.env, ...variablesOf(readFileSync(this.rooted(line("EnvironmentFile")), "utf8")) };
    const command = (key: string) => this.rooted(line(key)).split(" ");
    const [program, ...check] = command("ExecStartPre");
    expect(spawnSync(program!, check, { env, encoding: "utf8" })).toMatchObject({ status: 0, stderr: "" });
    const [, ...args] = command("ExecStart");
    const service = startProgram(program!, args, { env });
    await until(() => service.output().includes('"msg":"serving"') || service.child.exitCode !== null);
    expect(service.output()).toContain('"msg":"serving"');
    return service;
  }

  /** The page's command for users, as one of them. */
  ask(user: string, password: string): string {
    const [, command] = /`(edgelabel ask [^`]*)`/.exec(page)!;
    return execFileSync("sh", ["-c", `${command} --broker mqtt://127.0.0.1:${this.port}`], {
      env: { ...this.env, EDGELABEL_MQTT_USERNAME: user, EDGELABEL_MQTT_PASSWORD: password },
      encoding: "utf8",
    });
  }
}

const variablesOf = (text: string) =>
  Object.fromEntries(
    text
      .trim()
      .split("\n")
      .map((line) => /^(\w+)=(.*)$/.exec(line)!.slice(1)),
  );

describeMosquitto("deploy/README.md, as it stands", (binaries) => {
  let tarball: string;
  const [install, start] = blocksOf(INSTALL!);

  beforeAll(() => {
    tarball = makeRelease(join(folder, "release"));
  }, 300_000);

  async function newMachine(name: string): Promise<Machine> {
    const machine = new Machine(name, binaries, tarball);
    writeFileSync(join(machine.home, "model.wasm"), await tinyDeployable());
    machine.port = await freePort();
    return machine;
  }

  function installOn(machine: Machine): void {
    const [first, ...others] = install!.split("\n");
    expect(first).toMatch(/^npm install --global /);
    machine.type(...(existsSync(prefix) ? [] : [first!]), ...others);
    edit(machine);
  }

  /** What the page leaves to its reader: where the broker is. The other port is one that may be taken here. */
  function edit(machine: Machine): void {
    const file = machine.path("etc/edgelabel/edgelabel.json");
    const text = readFileSync(file, "utf8");
    expect(text).toContain("127.0.0.1:1883");
    writeFileSync(file, text.replace(":1883", `:${machine.port}`).replace("8080", "0"));
  }

  test.each([
    ["passwords", false],
    ["passwords and an access control list", true],
  ])("a broker that is there, with %s", async (_name, withAcl) => {
    const machine = await newMachine(withAcl ? "acl" : "passwords");
    machine.debian();
    const acl = machine.path("etc/mosquitto/acl");
    writeFileSync(
      machine.path("etc/mosquitto/conf.d/own.conf"),
      `listener ${machine.port} 127.0.0.1\nallow_anonymous false\npassword_file ${machine.path("etc/mosquitto/passwd")}\n${withAcl ? `acl_file ${acl}\n` : ""}`,
    );
    writeFileSync(machine.path("etc/mosquitto/passwd"), "");
    if (withAcl) writeFileSync(acl, "user lamp\ntopic readwrite lamps/#\n");
    machine.type("mosquitto_passwd -b /etc/mosquitto/passwd phone secret");
    await machine.startMosquitto();
    const before = machine.files("etc");

    const [user, rights, reload] = blocksOf(OWN_BROKER!);
    installOn(machine);
    machine.type("deploy=$(npm root --global)/edgelabel/deploy", user!, ...(withAcl ? [rights!] : []), reload!);
    machine.type(start!);
    expect(machine.read("systemctl")).toBe("reload mosquitto\nenable --now edgelabel\n");

    const after = machine.files("etc");
    const grown = ["etc/mosquitto/passwd", ...(withAcl ? ["etc/mosquitto/acl"] : [])];
    for (const [name, text] of Object.entries(before)) {
      if (grown.includes(name)) expect(after[name]!.startsWith(text), name).toBe(true);
      else expect(after[name], name).toBe(text);
    }
    expect(
      Object.keys(after)
        .filter((name) => !(name in before))
        .toSorted(),
    ).toEqual([
      "etc/edgelabel/credentials",
      "etc/edgelabel/edgelabel.json",
      "etc/edgelabel/models/model.wasm",
      "etc/mosquitto/conf.d/edgelabel.conf",
      "etc/systemd/system/edgelabel.service",
    ]);
    expect(statSync(machine.path("etc/edgelabel/credentials")).mode & 0o077).toBe(0);

    const service = await machine.startUnit();
    expect(machine.ask("phone", "secret")).toMatch(/^light\t0\.\d{6}\n$/);
    if (!withAcl) {
      const { EDGELABEL_MQTT_USERNAME: name, EDGELABEL_MQTT_PASSWORD: password } = variablesOf(
        machine.read("etc/edgelabel/credentials"),
      );
      expect(machine.ask(name!, password!)).toMatch(/^light\t/);
    }
    // All of it without one restart.
    expect(machine.log().match(/ running\n/g)).toHaveLength(1);
    expect(machine.log()).not.toMatch(/Error|Unable/);
    expect((await service.end()).code).toBe(0);
    await machine.stopMosquitto();
    // Nor does the next start find fault with what was added.
    await machine.startMosquitto();
    expect((await machine.startUnit()).output()).toContain('"msg":"serving"');
  });

  test("no broker", async () => {
    const machine = await newMachine("none");
    machine.debian("package");
    const bare = machine.files("package/etc");
    installOn(machine);
    // Where they lie and listen, by the script's own options.
    const [setUp] = blocksOf(NEW_BROKER!);
    const options = `--root ${machine.root} --port ${machine.port}`;
    const passwords = machine.type(
      "deploy=$(npm root --global)/edgelabel/deploy",
      setUp!.replace('setup.mjs"', `setup.mjs" ${options}`),
    );
    machine.type(start!);
    expect(machine.read("systemctl")).toBe("restart mosquitto\nenable --now edgelabel\n");
    for (const [name, text] of Object.entries(bare))
      expect(machine.read(name.replace("package/", "")), name).toBe(text);
    await machine.startMosquitto();
    await machine.startUnit();
    const [, password] = /^phone\t(\S+)$/m.exec(passwords)!;
    expect(machine.ask("phone", password!)).toMatch(/^light\t0\.\d{6}\n$/);
  });
});
