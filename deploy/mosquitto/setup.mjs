// Sets up Mosquitto for edgelabel: users, their rights by the dynamic security plugin, and TLS
// for other machines. It changes no file that is there, and refuses a Mosquitto that has users
// or listeners of its own. Run again, it adds the users and rights that are new.
//
//   node setup.mjs [--node NAME] [--group NAME] [--rights FILE]… [--tls HOST[:PORT]] USER…
import { execFileSync } from "node:child_process";
import { pbkdf2Sync, randomBytes } from "node:crypto";
import {
  chmodSync,
  closeSync,
  constants,
  existsSync,
  fchmodSync,
  fchownSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { isIP } from "node:net";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const HERE = dirname(fileURLToPath(import.meta.url));
/** The plugin's own form of a password. Guessing gains nothing: the passwords are random. */
const [ITERATIONS, SALT_BYTES, HASH_BYTES] = [101, 12, 64];
const TEN_YEARS = "3650";
/** A Mosquitto that has one of these decides already who may do what, or where it listens. */
const OWN =
  /^(?:listener|port|bind_address|per_listener_settings|allow_anonymous|password_file|acl_file|psk_file|plugin|auth_plugin|global_plugin)\b/m;

class Refusal extends Error {}

try {
  main();
} catch (error) {
  const isKnown =
    error instanceof Refusal || error.code?.startsWith("ERR_PARSE_ARGS") || ["EACCES", "EPERM"].includes(error.code);
  process.stderr.write(`setup.mjs: ${isKnown ? error.message : error.stack}\n`);
  process.exitCode = 1;
}

function main() {
  const { values, positionals: names } = parseArgs({
    allowPositionals: true,
    options: {
      node: { type: "string", default: "gate-1" },
      group: { type: "string" },
      rights: { type: "string", multiple: true, default: [] },
      tls: { type: "string" },
      // For tests, and for a Mosquitto that lies elsewhere.
      root: { type: "string", default: "/" },
      port: { type: "string", default: "1883" },
      plugin: { type: "string" },
    },
  });
  for (const name of [values.node, ...(values.group === undefined ? [] : [values.group]), ...names]) {
    if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name))
      throw new Refusal(`${JSON.stringify(name)} cannot be a name here: use 1 to 64 letters, digits, ".", "_" or "-"`);
  }
  const at = (path) => join(values.root, path);
  const files = {
    main: at("etc/mosquitto/mosquitto.conf"),
    folder: at("etc/mosquitto/conf.d"),
    settings: at("etc/mosquitto/conf.d/edgelabel.conf"),
    users: at("var/lib/mosquitto/edgelabel-users.json"),
    certificates: at("etc/mosquitto/edgelabel"),
    credentials: at("etc/edgelabel/credentials"),
  };
  const isNew = !existsSync(files.settings);
  const plugin = values.plugin ?? findPlugin(values.root);
  if (isNew) requireUnused(files);
  else if (values.tls !== undefined)
    throw new Refusal(
      `${files.settings} is there and stays as it is; without --tls the users and rights that are new are added`,
    );
  const owner = statSync(dirname(files.users));

  const rights = [join(HERE, "acl"), ...values.rights].map((file) => readFileSync(file, "utf8")).join("\n");
  const parsed = parseRights(fit(rights, values));
  const tls = values.tls === undefined ? "" : makeCertificate(files.certificates, values.tls, owner);
  const made = addUsers(files.users, parsed, names, owner);
  if (isNew) {
    const text = readFileSync(join(HERE, "edgelabel.conf"), "utf8")
      .replace("{port}", values.port)
      .replace("{plugin}", plugin)
      .replace("{users}", files.users);
    writeFileSync(files.settings, text + tls, { flag: "wx" });
  }
  const service = made.get("edgelabel");
  if (service !== undefined && !existsSync(files.credentials)) {
    mkdirSync(dirname(files.credentials), { recursive: true });
    writeFileSync(files.credentials, `EDGELABEL_MQTT_USERNAME=edgelabel\nEDGELABEL_MQTT_PASSWORD=${service}\n`, {
      flag: "wx",
      mode: 0o600,
    });
    made.delete("edgelabel");
  }
  for (const [name, password] of made) process.stdout.write(`${name}\t${password}\n`);
  process.stderr.write("These passwords are shown only now. To use them: systemctl restart mosquitto\n");
}

function findPlugin(root) {
  const folders = ["usr/lib", "usr/local/lib", "lib"]
    .map((folder) => join(root, folder))
    .filter((folder) => existsSync(folder));
  const all = folders.flatMap((folder) => [
    folder,
    ...readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => join(folder, name)),
  ]);
  const found = all.map((folder) => join(folder, "mosquitto_dynamic_security.so")).find((path) => existsSync(path));
  if (found === undefined)
    throw new Refusal(
      "Mosquitto 2 with its dynamic security plugin is not there: apt install mosquitto, or give --plugin FILE",
    );
  return found;
}

/** Refuses a Mosquitto whose users or listeners this would change. */
function requireUnused({ main, folder, users }) {
  if (!existsSync(folder)) throw new Refusal(`${folder} is not there: apt install mosquitto`);
  const others = [
    main,
    ...readdirSync(folder)
      .filter((name) => name.endsWith(".conf"))
      .map((name) => join(folder, name)),
  ].filter((path) => existsSync(path));
  for (const path of others) {
    const [own] = OWN.exec(readFileSync(path, "utf8")) ?? [];
    if (own !== undefined)
      throw new Refusal(
        `${path} has "${own}": this Mosquitto has users or listeners of its own, which stay as they are. deploy/README.md, "You already have a broker", says what to add to it`,
      );
  }
  if (!/^include_dir\s+\S*conf\.d\/?\s*$/m.test(existsSync(main) ? readFileSync(main, "utf8") : ""))
    throw new Refusal(`${main} does not read ${folder}: add the line "include_dir ${folder}" to it`);
  if (existsSync(users)) throw new Refusal(`${users} is there, from an earlier set-up: move it away first`);
}

/** The rights for this node and its group; without a group, those of "pool" go. */
function fit(rights, { node, group }) {
  const lines = rights.split("\n").filter((line) => group !== undefined || !/[ /]pool\//.test(line));
  return lines
    .join("\n")
    .replaceAll("gate-1", node)
    .replaceAll("$share/pool/edgelabel/pool/", `$share/${group}/edgelabel/${group}/`)
    .replaceAll("edgelabel/pool/", `edgelabel/${group}/`);
}

/** An access control list -> the rights of those that it names, and those of everyone. */
function parseRights(text) {
  const byName = new Map();
  const everyone = [];
  let current;
  for (const line of text.split("\n").filter((each) => /^\w/.test(each))) {
    const [, word, access, rest] = /^(\w+)(?: (readwrite|read|write))? (\S+)$/.exec(line.trim()) ?? [];
    if (word === "user") byName.set(rest, (current = byName.get(rest) ?? []));
    else if (word === "topic" && access && current) current.push([access, rest]);
    else if (word === "pattern" && access) everyone.push([access, rest]);
    else throw new Refusal(`cannot read the right ${JSON.stringify(line)}`);
  }
  return { byName, everyone };
}

/** The plugin has no %u before Mosquitto 2.1, so everyone has a role of its own. */
function roleOf(name, { byName, everyone }) {
  const all = [
    ...(byName.get(name) ?? []),
    ...everyone.map(([access, filter]) => [access, filter.replaceAll("%u", name)]),
  ];
  // admin manages the users too, by mosquitto_ctrl.
  if (name === "admin") all.push(["readwrite", "$CONTROL/dynamic-security/#"]);
  const types = { read: ["subscribePattern", "publishClientReceive"], write: ["publishClientSend"] };
  const acls = all.flatMap(([access, topic]) =>
    [...(access === "write" ? [] : types.read), ...(access === "read" ? [] : types.write)].map((acltype) => ({
      acltype,
      topic,
      priority: 0,
      allow: true,
    })),
  );
  return { rolename: name, acls };
}

/** Adds those of `names`, and of the rights, that are not there; returns the passwords of new users. */
function addUsers(path, rights, names, owner) {
  const state = existsSync(path)
    ? JSON.parse(readNoLink(path))
    : {
        defaultACLAccess: {
          publishClientSend: false,
          publishClientReceive: false,
          subscribe: false,
          unsubscribe: true,
        },
        clients: [],
        groups: [],
        roles: [],
      };
  const made = new Map();
  for (const name of new Set([...rights.byName.keys(), ...names])) {
    const role = state.roles.find(({ rolename }) => rolename === name);
    const isThere = ({ acltype, topic }) => role.acls.some((acl) => acl.acltype === acltype && acl.topic === topic);
    if (role === undefined) state.roles.push(roleOf(name, rights));
    else role.acls.push(...roleOf(name, rights).acls.filter((acl) => !isThere(acl)));
    if (state.clients.some(({ username }) => username === name)) continue;
    const password = randomBytes(18).toString("base64url");
    const salt = randomBytes(SALT_BYTES);
    made.set(name, password);
    state.clients.push({
      username: name,
      password: pbkdf2Sync(password, salt, ITERATIONS, HASH_BYTES, "sha512").toString("base64"),
      salt: salt.toString("base64"),
      iterations: ITERATIONS,
      roles: [{ rolename: name }],
    });
  }
  // The folder is Mosquitto's, which must not lead root to another file: "wx" follows no link.
  rmSync(`${path}.new`, { force: true });
  const file = openSync(`${path}.new`, "wx", 0o600);
  writeFileSync(file, `${JSON.stringify(state, undefined, "\t")}\n`);
  give(file, owner);
  closeSync(file);
  renameSync(`${path}.new`, path);
  return made;
}

function readNoLink(path) {
  const file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    return readFileSync(file, "utf8");
  } finally {
    closeSync(file);
  }
}

/** An authority of this broker alone, and its certificate; returns the settings of the listener. */
function makeCertificate(folder, host, owner) {
  const [, name, port] = /^(.*?)(?::(\d+))?$/.exec(host);
  if (existsSync(folder)) throw new Refusal(`${folder} is there, from an earlier set-up: move it away first`);
  const work = mkdtempSync(`${folder}-`);
  try {
    const openssl = (...args) => execFileSync("openssl", args, { cwd: work, stdio: "pipe" });
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    openssl(
      "req",
      "-x509",
      ...key,
      "-days",
      TEN_YEARS,
      "-subj",
      "/CN=edgelabel broker",
      "-keyout",
      "ca.key",
      "-out",
      "ca.pem",
    );
    openssl(
      "req",
      ...key,
      "-subj",
      `/CN=${name}`,
      "-addext",
      `subjectAltName=${isIP(name) ? "IP" : "DNS"}:${name}`,
      "-keyout",
      "server.key",
      "-out",
      "server.csr",
    );
    openssl(
      "x509",
      "-req",
      "-in",
      "server.csr",
      "-CA",
      "ca.pem",
      "-CAkey",
      "ca.key",
      "-CAcreateserial",
      "-days",
      TEN_YEARS,
      "-copy_extensions",
      "copy",
      "-out",
      "server.pem",
    );
    // Nobody needs the authority's key again: another certificate takes another authority.
    for (const file of readdirSync(work))
      if (!["ca.pem", "server.pem", "server.key"].includes(file)) rmSync(join(work, file));
    const file = openSync(join(work, "server.key"), "r+");
    fchmodSync(file, 0o600);
    give(file, owner);
    closeSync(file);
    chmodSync(work, 0o755);
    renameSync(work, folder);
  } catch (error) {
    throw error.code === "ENOENT"
      ? new Refusal("a certificate is made by openssl, which is not there: apt install openssl")
      : error;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return `\n# For other machines, which need ${join(folder, "ca.pem")}.\nlistener ${port ?? 8883}\ncertfile ${join(folder, "server.pem")}\nkeyfile ${join(folder, "server.key")}\ntls_version tlsv1.2\n`;
}

/** To the user that Mosquitto runs as, who owns its folder. */
function give(file, { uid, gid }) {
  if (process.getuid() === 0) fchownSync(file, uid, gid);
}
