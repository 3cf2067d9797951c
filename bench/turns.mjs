// For all comparisons: contenders as processes that answer JSON lines, figures, tables.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

export class Worker {
  constructor(command, args) {
    // Such variables can make OpenBLAS choose a slower kernel, which would be unfair to the peers.
    const { OPENBLAS_CORETYPE: _type, OPENBLAS_L2_SIZE: _size, ...env } = process.env;
    this.child = spawn(command, args, {
      env,
      stdio: ["pipe", "pipe", process.env.BENCH_VERBOSE ? "inherit" : "ignore"],
    });
    this.lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
    this.child.on("error", () => {});
    this.child.stdin.on("error", () => {});
  }

  async ask(request) {
    this.child.stdin.write(`${JSON.stringify(request)}\n`);
    const { value, done } = await this.lines.next();
    return done ? { ok: false, error: "its process ended" } : JSON.parse(value);
  }

  end() {
    this.child.stdin.end();
  }
}

export function spread(times) {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  return { min: sorted[0], median: at(0.5), p90: at(0.9) };
}

export const micro = (x) => (x < 100 ? x.toFixed(1) : Math.round(x).toString());

export function table(head, rows) {
  return [head, head.map((_, i) => (i ? "--:" : "---")), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
}

/** A row of the table of targets. */
export function verdict(what, figure, wanted, isMost = false, unit = "×") {
  const isMet = isMost ? figure <= wanted : figure >= wanted;
  return [what, `${figure.toFixed(2)}${unit}`, `${isMost ? "≤" : "≥"} ${wanted}${unit}`, isMet ? "met" : "**missed**"];
}
