// How much a cache of states for lines with the same beginning could save at most: the share of
// LSTM steps that lie in a prefix shared with an earlier line. The lines are made here, in the
// styles of Loghub's collections, and split into words as the default recipe does.
//   node bench/prefix.mjs
import { KERAS_FILTERS } from "../build/host/training/recipe.js";

const LINES = 5000;
let state = 1;
/** Mulberry32: a number in [0, n). */
function random(n) {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) % n;
}
const one = (...choices) => choices[random(choices.length)];
const pad = (n) => String(n).padStart(2, "0");
const clock = (i) => `${pad(Math.floor(i / 3600) % 24)}:${pad(Math.floor(i / 60) % 60)}:${pad(i % 60)}`;
const ip = () => `10.${random(4)}.${random(200)}.${random(250)}`;

const STYLES = {
  "ssh daemon, time first": (i) =>
    `Dec 10 ${clock(i)} LabSZ sshd[${20000 + random(9000)}]: ${one(
      `Failed password for invalid user ${one("admin", "test", "oracle", "root")} from ${ip()} port ${random(60000)} ssh2`,
      `Received disconnect from ${ip()}: 11: Bye Bye [preauth]`,
      `Connection closed by ${ip()} [preauth]`,
    )}`,
  "file system, time first": (i) =>
    `081109 ${clock(i).replaceAll(":", "")} ${random(200)} INFO dfs.DataNode$PacketResponder: ${one(
      `PacketResponder ${random(3)} for block blk_${random(1e9)} terminating`,
      `Received block blk_${random(1e9)} of size 67108864 from /${ip()}`,
    )}`,
  "web server, time first": (i) =>
    `[Sun Dec 04 ${clock(i)} 2005] [${one("notice", "error")}] ${one(
      `jk2_init() Found child ${random(9999)} in scoreboard slot ${random(12)}`,
      "workerEnv.init() ok /etc/httpd/conf/workers2.properties",
      `mod_jk child workerEnv in error state ${random(9)}`,
    )}`,
  "no time, level first": () =>
    `${one("INFO", "INFO", "INFO", "WARN", "ERROR")} ${one("scheduler", "storage", "executor")} ${one(
      `Finished task ${random(40)}.0 in stage ${random(9)}.0 (TID ${random(9999)})`,
      `Block rdd_${random(50)}_${random(40)} stored as values in memory`,
      `Removed broadcast_${random(99)} on ${ip()}:${random(60000)}`,
    )}`,
};

const separators = new RegExp(`[${KERAS_FILTERS.replaceAll(/[\\\]^-]/g, "\\$&")} ]+`);
console.log(
  "| style | tokens a line | shared with the line before | with any of the last 1000 lines |\n|---|--:|--:|--:|",
);
for (const [style, line] of Object.entries(STYLES)) {
  const seen = new Map(); // prefix -> the last line that had it
  let tokens = 0,
    before = 0,
    any = 0;
  for (let i = 0; i < LINES; i++) {
    // Three lines a second.
    const words = line(Math.floor(i / 3))
      .toLowerCase()
      .split(separators)
      .filter(Boolean);
    tokens += words.length;
    let prefix = "",
      isNext = true,
      isAny = true;
    for (const word of words) {
      prefix += `${word} `;
      const last = seen.get(prefix) ?? -Infinity;
      isNext &&= last === i - 1;
      isAny &&= i - last <= 1000;
      before += isNext;
      any += isAny;
      seen.set(prefix, i);
    }
  }
  const share = (n) => `${((100 * n) / tokens).toFixed(0)} %`;
  console.log(`| ${style} | ${(tokens / LINES).toFixed(1)} | ${share(before)} | ${share(any)} |`);
}
