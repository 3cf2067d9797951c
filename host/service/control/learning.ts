// Learning in a running service: the commands `learn` and `evaluate` over MQTT (see
// commands.ts for their statuses).
//
//   learn     {"model"?, "text", "label"}  or  {"model"?, "corrections": [{"text", "label"}, …]}
//             {"model"?}                   learns what the journal has
//             {"model"?, "undo": true}     goes back to the version before the last one
//   evaluate  {"model"?}                   on its hold-out;  {"model"?, "samples": [{"text", "label"}, …]}
//
// Of a model that gives several labels, "label" is a list, which may be empty.
//
// Corrections are in the journal, on the disk, before `learn` reports {"kept": n}. Then the
// command line's `learn` runs as a process of its own at the lowest priority, so that no
// answer waits for it. If it accepts a new model, that one takes the old one's place.
// Corrections that come meanwhile are learnt together by the next run. When the service dies
// while an accepted model is being written, the next start finishes the writing.
// `evaluate` asks the model through the same queue as everyone else.
import { spawn } from "node:child_process";
import { constants, setPriority } from "node:os";
import { setTimeout as pause } from "node:timers/promises";
import { artefactPath } from "../../artefact.ts";
import { digestOf, openModel, readModelFile } from "../../model/file.ts";
import { appendCorrections, type Correction, journalPath, readCorrections } from "../../data/journal.ts";
import { labelsOfSample, type Sample, sampleOf, soleLabel } from "../../data/dataset.ts";
import { readDataset } from "../../data/read.ts";
import { EdgelabelError } from "../../errors.ts";
import { Evaluator } from "../../report/evaluation.ts";
import { isDone, leftOf, type LearnReport } from "../../training/learn.ts";
import { withModelLock } from "../../files/lock.ts";
import { finishChange, restoreFiles } from "../../files/versions.ts";
import type { VersionInfo } from "../../registry/state.ts";
import type { LiveModels } from "./live-models.ts";
import type { Command, Verb } from "./commands.ts";
import type { Log } from "../log.ts";
import { RequestError } from "../answer/messages.ts";
import type { Service } from "../service.ts";

/** What a model learns from: paths of files. */
export interface LearningSettings {
  training: string;
  data: string[];
  valid: string[];
  newLabels: boolean;
}

/** Where a learnt model goes, and how the service comes to answer with it. */
export interface Deployment {
  /** Options of `learn` that say where. */
  target: readonly string[];
  /** Makes the service answer with the model that is there now; a run that has learnt something has `installed` it in a registry. */
  follow(installed?: VersionInfo): Promise<unknown>;
  /** Restores the previous training form and deployed model; returns the files that it restored. */
  undo(): Promise<string[]>;
}

/** The model is the file that the service was given. */
function deployFile(service: Service, name: string, { training }: LearningSettings, output: string): Deployment {
  const follow = async (): Promise<void> => {
    const model = await openModel(output);
    if (model.digest !== service.predictor.model(name).model.digest) service.setModel(name, model);
  };
  return {
    target: ["-o", output],
    follow,
    undo: async () => {
      const restored = await restore([training, output]);
      await follow();
      return restored;
    },
  };
}

/** The model is a registry's: what is learnt becomes a version there. */
function deployToRegistry(live: LiveModels, name: string, { training }: LearningSettings): Deployment {
  const { registry } = live;
  return {
    target: ["--registry", registry.store.folder, "--name", name],
    follow: async (installed) => {
      const found = installed ? await live.require(installed) : await live.follow();
      if (found?.state === "waiting")
        throw new EdgelabelError(
          `another version of ${name} has become active meanwhile; what was learnt waits as version ${found.version}: choose it with the command activate`,
        );
    },
    undo: async () => {
      if ((await registry.active(name)).training !== digestOf(await readModelFile(training)))
        throw new EdgelabelError(
          `there is nothing to undo: the active version of ${name} was not learnt from ${training} as it is now; choose another version with the command activate, and for that file use: edgelabel learn ${training} --undo`,
        );
      const restored = await restore([training]);
      await live.require(await registry.rollback(name));
      return restored;
    },
  };
}

function restore(paths: readonly string[]): Promise<string[]> {
  return withModelLock(paths[0]!, async () => {
    await finishChange(paths);
    return restoreFiles(paths);
  });
}

/** Finishes the writing of models that a crash has interrupted; to be called before the models are opened. */
export async function finishWriting(learning: ReadonlyMap<string, LearningSettings>, log: Log): Promise<void> {
  for (const { training } of learning.values()) {
    try {
      const finished = await withModelLock(training, () => finishChange([training]));
      if (finished.length > 0)
        log.info(`learning was interrupted while it wrote; it is finished now: ${finished.join(", ")}`);
    } catch (error) {
      // Either another process is learning and will finish itself, or the files cannot be written, and then no run had begun to.
      if (!(error instanceof EdgelabelError)) throw error;
      log.warn(`warning: ${error.message}`);
    }
  }
}

/** `paths` are the files of those models that the service was given as files; the others are the registry's. */
export function createLearners(
  learning: ReadonlyMap<string, LearningSettings>,
  service: Service,
  paths: ReadonlyMap<string, string>,
  live: LiveModels | undefined,
): Map<string, Learner> {
  return new Map(
    [...learning].map(([name, settings]) => {
      const path = paths.get(name);
      const deployment =
        path === undefined ? deployToRegistry(live!, name, settings) : deployFile(service, name, settings, path);
      return [name, new Learner(settings, deployment)];
    }),
  );
}

/** Texts of an evaluation in one request to the predictor. */
const EVALUATED_AT_ONCE = 32;
const LATER_MS = 200;

export function learningVerbs(service: Service, learners: ReadonlyMap<string, Learner>): Record<string, Verb> {
  const nameOf = (args: Command["args"]): string => {
    const { models, defaultModel } = service.predictor;
    const { model = defaultModel } = args;
    if (typeof model === "string" && models.has(model)) return model;
    throw new EdgelabelError(
      `there is no model ${JSON.stringify(model)} here; the models are ${[...models.keys()].join(", ")}`,
    );
  };
  const learnerOf = (name: string): Learner => {
    const learner = learners.get(name);
    if (!learner)
      throw new EdgelabelError(
        `the model ${name} has nothing to learn from here: give "learning" in the configuration file its training form and data`,
      );
    return learner;
  };
  return {
    learn: async ({ args, report, signal }) => {
      const name = nameOf(args);
      const learner = learnerOf(name);
      if (args["undo"] === true) return { model: name, restored: await learner.undo() };
      const corrections = correctionsOf(args);
      if (corrections.length > 0) {
        const { labels, isMultiLabel } = service.predictor.model(name).model;
        // Before anything is kept that could never be learnt.
        if (!isMultiLabel) for (const correction of corrections) soleLabel(correction);
        await learner.keep(corrections, labels);
        report({ kept: corrections.length });
      }
      return { model: name, ...(await learner.learn(signal)) };
    },
    evaluate: async ({ args, signal }) => {
      const name = nameOf(args);
      const samples =
        args["samples"] === undefined
          ? await learnerOf(name).holdOut(service.predictor.model(name).model.isMultiLabel)
          : samplesOf(args["samples"], "samples");
      return { model: name, ...(await evaluate(service, name, samples, signal)) };
    },
  };
}

export class Learner {
  private readonly settings: LearningSettings;
  private readonly deployment: Deployment;
  private appending: Promise<void> = Promise.resolve();
  private running: Promise<LearnReport> | undefined;
  private next: Promise<LearnReport> | undefined;

  constructor(settings: LearningSettings, deployment: Deployment) {
    this.settings = settings;
    this.deployment = deployment;
  }

  /** Whether corrections may have labels that the model does not know. */
  get takesNewLabels(): boolean {
    return this.settings.newLabels;
  }

  /** Without what the model is, or will be, trained on. */
  async holdOut(mayHaveSeveral: boolean): Promise<Sample[]> {
    return leftOf(
      await readDataset(this.settings.valid, { mayHaveSeveral }),
      await readCorrections(journalPath(this.settings.training)),
    );
  }

  /** Resolves when the corrections are on the disk. */
  keep(corrections: readonly Correction[], labels: readonly string[]): Promise<void> {
    const unknown = corrections.flatMap(labelsOfSample).find((label) => !labels.includes(label));
    if (unknown !== undefined && !this.settings.newLabels)
      throw new EdgelabelError(
        `the model does not know the label ${JSON.stringify(unknown)}; it knows ${labels.join(", ")}`,
      );
    const done = this.appending.then(() => appendCorrections(journalPath(this.settings.training), corrections));
    this.appending = done.catch(() => {});
    return done;
  }

  /** Resolves when a run that began after this call has been accepted or found nothing to learn; throws an EdgelabelError with the reason otherwise. */
  learn(signal: AbortSignal): Promise<LearnReport> {
    if (this.running) this.next ??= this.running.catch(() => {}).then(() => this.start(signal));
    // Between two runs `running` is undefined while `next` is about to start.
    return this.next ?? this.start(signal);
  }

  /** Takes back the last accepted run; returns the files that it restored. */
  async undo(): Promise<string[]> {
    if (this.running || this.next) throw new EdgelabelError("it is learning: undo when it has finished");
    return this.deployment.undo();
  }

  private start(signal: AbortSignal): Promise<LearnReport> {
    this.next = undefined;
    const run = this.run(signal).finally(() => {
      if (this.running === run) this.running = undefined;
    });
    this.running = run;
    return run;
  }

  private async run(signal: AbortSignal): Promise<LearnReport> {
    const { training, data, valid, newLabels } = this.settings;
    const { stdout, stderr } = await runCommand(
      [
        "learn",
        training,
        "--data",
        ...data,
        "--valid",
        ...valid,
        ...this.deployment.target,
        ...(newLabels ? ["--new-labels"] : []),
        "--json",
      ],
      signal,
    );
    let report: LearnReport & { installed?: VersionInfo };
    try {
      report = JSON.parse(stdout) as typeof report;
    } catch {
      // Remarks come before it.
      throw new EdgelabelError(
        stderr
          .trim()
          .split(/^edgelabel: /m)
          .at(-1)! || "learning broke off",
      );
    }
    if (!isDone(report)) throw new EdgelabelError(`the old model stays: ${report.reason}`);
    await this.deployment.follow(report.installed);
    return report;
  }
}

/** Runs edgelabel as a process of the lowest priority. */
function runCommand(args: string[], signal: AbortSignal): Promise<{ stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [artefactPath("host/main.js"), ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      signal,
      killSignal: "SIGKILL",
    });
    try {
      if (child.pid !== undefined) setPriority(child.pid, constants.priority.PRIORITY_LOW);
    } catch {
      // Where that is forbidden the scheduler still shares fairly.
    }
    const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []];
    child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
    child.on("error", () =>
      reject(signal.reason instanceof Error ? signal.reason : new EdgelabelError("learning could not be started")),
    );
    child.on("close", () =>
      resolve({ stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() }),
    );
  });
}

async function evaluate(
  service: Service,
  name: string,
  samples: readonly Correction[],
  signal: AbortSignal,
): Promise<object> {
  const { model } = service.predictor.model(name);
  const evaluator = new Evaluator(model.labels);
  for (let first = 0; first < samples.length; first += EVALUATED_AT_ONCE) {
    const part = samples.slice(first, first + EVALUATED_AT_ONCE);
    const { predictions } = await predict(
      service,
      name,
      part.map(({ text }) => text),
      signal,
    );
    predictions.forEach((prediction, i) => evaluator.add(part[i]!, prediction));
  }
  const { n, accuracy, coverage, accepted_accuracy, micro_f1, macro_f1, weighted_f1, per_class, unknown_labels } =
    evaluator.evaluate();
  return {
    version: model.version,
    digest: model.digest,
    n,
    accuracy,
    coverage,
    accepted_accuracy,
    micro_f1,
    macro_f1,
    weighted_f1,
    per_class,
    unknown_labels,
  };
}

/** While requests fill the queue, or the evaluation exceeds its rate, it waits and tries again. */
async function predict(
  service: Service,
  model: string,
  texts: readonly string[],
  signal: AbortSignal,
): ReturnType<Service["predictor"]["predict"]> {
  const bytes = texts.reduce((sum, text) => sum + text.length, 0);
  for (;;) {
    try {
      return await service.predictor.predict({ requester: "evaluate", model, texts, bytes, isOwn: true });
    } catch (error) {
      if (!(error instanceof RequestError && (error.code === "busy" || error.code === "rate"))) throw error;
    }
    await pause(LATER_MS, undefined, { signal });
  }
}

function correctionsOf(args: Command["args"]): Correction[] {
  const { text, label, corrections } = args;
  if (corrections !== undefined) return samplesOf(corrections, "corrections");
  return text === undefined && label === undefined ? [] : samplesOf([{ text, label }], "correction");
}

function isLabelOrList(value: unknown): value is string | string[] {
  return typeof value === "string" || (Array.isArray(value) && value.every((each) => typeof each === "string"));
}

function samplesOf(value: unknown, what: string): Sample[] {
  if (!Array.isArray(value)) throw new EdgelabelError(`"${what}" must be an array of objects with "text" and "label"`);
  return value.map((item: unknown, i) => {
    const { text, label } = (item ?? {}) as Record<string, unknown>;
    if (typeof text !== "string" || !isLabelOrList(label))
      throw new EdgelabelError(`${what} ${i + 1}: "text" must be a string, and "label" a string or a list of them`);
    const sample = sampleOf(label, text, i + 1);
    if (typeof sample === "string") throw new EdgelabelError(`${what} ${i + 1}: ${sample}`);
    return sample;
  });
}
