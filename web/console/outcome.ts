// The status of a command -> what came of it, in words.
import { percent } from "../../host/figures.ts";

export interface Status {
  verb: string;
  id: string;
  status: "executing" | "successful" | "failed";
  [field: string]: unknown;
}

const NAMES: Record<string, string> = {
  activate: "Activate",
  rollback: "Roll back",
  evaluate: "Evaluate",
  learn: "Learn",
};

export function nameOf(verb: string): string {
  return NAMES[verb] ?? verb;
}

export function outcomeOf({ verb, status, ...fields }: Status): string {
  if (status === "failed") return `failed: ${String(fields["reason"] ?? "no reason is given")}`;
  if (status === "executing")
    return typeof fields["kept"] === "number" ? `runs, with ${fields["kept"]} corrections` : "runs";
  const { accuracy, micro_f1: f1, n, version } = fields;
  if (verb === "evaluate" && typeof accuracy === "number" && typeof n === "number")
    return typeof f1 === "number"
      ? `micro F1 ${f1.toFixed(3)}; ${percent(accuracy, 1)} of ${n} texts have exactly their labels`
      : `${percent(accuracy, 1)} of ${n} texts right`;
  if (verb === "learn") return learnt(fields);
  return typeof version === "string" ? `done; version ${version} answers` : "done";
}

interface Standing {
  corrected?: number;
  accuracy?: number;
}

/** The verdict of the hold-out, before and after. */
function learnt(fields: Record<string, unknown>): string {
  if (fields["restored"] !== undefined) return "done; the version before is back";
  const { before, after, corrections, version } = fields as {
    before?: Standing;
    after?: Standing | null;
    corrections?: number;
    version?: string;
  };
  if (!after) return "done; nothing was left to learn";
  const { accuracy: was = 0 } = before ?? {};
  return `done; version ${version ?? "?"} answers. Hold-out ${percent(was, 1)} → ${percent(after.accuracy ?? 0, 1)}, corrections right ${before?.corrected ?? 0} → ${after.corrected ?? 0} of ${corrections ?? 0}`;
}
