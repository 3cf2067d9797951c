// Learning in a running service: the commands `learn` and `evaluate` over MQTT (see
// commands.ts for their statuses).
//
//   learn     {"model"?, "text", "label"}  or  {"model"?, "corrections": [{"text", "label"}, …]}
//             {"model"?}                   learns what the journal has
//             {"model"?, "undo": true}     goes back to the version before the last one
//   evaluate  {"model"?}                   on its hold-out;  {"model"?, "samples": [{"text", "label"}, …]}
//
// Corrections are in the journal, on the disk, before `learn` reports {"kept": n}. Then the
// command line's `learn` runs as a process of its own at the lowest priority, so that no
// answer waits for it. If it accepts a new model, that one takes the old one's place.
// Corrections that come meanwhile are learnt together by the next run. When the service dies
// before an accepted model has been written and served, the next start finishes the work.
// `evaluate` asks the model through the same queue as everyone else.
import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { constants, setPriority } from "node:os";
import { setTimeout as pause } from "node:timers/promises";
import { artefactPath } from "../../build-path.ts";
import { Classifier, digestOf, readModelFile } from "../../model/classifier.ts";
import { appendCorrections, type Correction, journalPath, readCorrections } from "../../data/journal.ts";
import { readDataset, sampleDefect, without } from "../../data/dataset.ts";
import { UserError } from "../../errors.ts";
import { Tally } from "../../report/evaluation.ts";
import { ifCode } from "../../files/atomic.ts";
import { isDone, type LearnReport } from "../../training/learn.ts";
import { withModelLock } from "../../files/lock.ts";
import { finishChange, restoreFiles } from "../../files/versions.ts";
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

/** How a learnt model gets into the service. */
export interface Deployment {
  /** The file that `learn -o` writes. */
  output: string;
  /** To be called before a run. */
  begin?(): Promise<void>;
  /** Makes the service answer with the model that is in `output` now. */
  put(): Promise<unknown>;
  /** Whether the model in `output` was accepted by the last run and has never been put into service. */
  isBehind(): Promise<boolean>;
  /** Restores the previous training form and deployed model; returns the files that it restored. */
  undo(training: string): Promise<string[]>;
}

/** The model is the file that the service was given. */
function deployFile(service: Service, name: string, output: string): Deployment {
  const put = async (): Promise<void> => service.setModel(name, await Classifier.open(output));
  return {
    output,
    put,
    isBehind: async () => digestOf(await readModelFile(output)) !== service.predictor.model(name).model.digest,
    undo: async (training) => {
      const restored = await restore(training, output);
      await put();
      return restored;
    },
  };
}

/** The model is a registry's: what was learnt becomes a version there. */
function deployToRegistry(live: LiveModels, name: string, { training }: LearningSettings): Deployment {
  const { registry } = live;
  const output = training.replace(/\.elb$/, ".wasm");
  const outputDigest = (): Promise<string | undefined> => readFile(output).then(digestOf, ifCode("ENOENT", undefined));
  const put = async (): Promise<void> => {
    const learnt = await live.require(await registry.adoptLearnt(await readModelFile(output), output, name));
    if (learnt.state === "waiting")
      throw new UserError(
        `another version of ${name} has become active meanwhile; what was learnt waits as version ${learnt.version}: choose it with the command activate`,
      );
  };
  // The registry knows: the file may be a copy that somebody has put there, and its time says nothing.
  const isBehind = async (): Promise<boolean> => {
    const run = await registry.learningOf(name);
    if (!run) return false;
    if ((await outputDigest()) !== run.output) return true;
    // Unless it is still at work: its process outlives a service that is killed.
    await withModelLock(training, () => registry.endLearning(name)).catch((error: unknown) => {
      if (!(error instanceof UserError)) throw error;
    });
    return false;
  };
  return {
    output,
    put,
    isBehind,
    begin: async () => {
      if (await isBehind()) await put();
      await registry.beginLearning(name, await outputDigest());
    },
    undo: async (training) => {
      const active = (await registry.versions()).find((version) => version.name === name && version.state === "active");
      const learnt = await Classifier.open(output);
      if (active?.digest !== learnt.digest)
        throw new UserError(
          `the active version of ${name} is not what was learnt last; choose another one with the command activate`,
        );
      const restored = await restore(training, output);
      await live.require(await registry.rollback(name));
      return restored;
    },
  };
}

function restore(training: string, output: string): Promise<string[]> {
  const paths = [training, output];
  return withModelLock(training, async () => {
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
        log.info(`learning had broken off while it wrote; it is finished now: ${finished.join(", ")}`);
    } catch (error) {
      // Either another process is learning and will finish itself, or the files cannot be written, and then no run had begun to.
      if (!(error instanceof UserError)) throw error;
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
      const deployment = path === undefined ? deployToRegistry(live!, name, settings) : deployFile(service, name, path);
      return [name, new Learner(settings, deployment)];
    }),
  );
}

/** Makes the service answer with models that were accepted before it started. */
export async function finishServing(learners: ReadonlyMap<string, Learner>, log: Log): Promise<void> {
  for (const [name, learner] of learners) {
    try {
      if (await learner.finish()) log.info(`model ${name} is now what it had learnt before the service went down`);
    } catch (error) {
      log.warn(`warning: what model ${name} has learnt cannot be served: ${(error as Error).message}`);
    }
  }
}

/** Texts of an evaluation in one request to the predictor. */
const EVALUATED_AT_ONCE = 32;
const LATER_MS = 200;

export function learningVerbs(service: Service, learners: ReadonlyMap<string, Learner>): Record<string, Verb> {
  const nameOf = (args: Command["args"]): string => {
    const { models, defaultModel } = service.predictor;
    const { model = defaultModel } = args;
    if (typeof model === "string" && models.has(model)) return model;
    throw new UserError(
      `there is no model ${JSON.stringify(model)} here; the models are ${[...models.keys()].join(", ")}`,
    );
  };
  const learnerOf = (name: string): Learner => {
    const learner = learners.get(name);
    if (!learner)
      throw new UserError(
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
        await learner.keep(corrections, service.predictor.model(name).model.labels);
        report({ kept: corrections.length });
      }
      return { model: name, ...(await learner.learn(signal)) };
    },
    evaluate: async ({ args, signal }) => {
      const name = nameOf(args);
      const samples =
        args["samples"] === undefined ? await learnerOf(name).holdOut() : samplesOf(args["samples"], "samples");
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

  /** Without what the model is, or will be, trained on. */
  async holdOut(): Promise<Correction[]> {
    const left = without(
      await readDataset(this.settings.valid),
      await readCorrections(journalPath(this.settings.training)),
    );
    if (left.length === 0)
      throw new UserError("every held-out text is a correction too, so nothing is left to measure on");
    return left;
  }

  /** Resolves when the corrections are on the disk. */
  keep(corrections: readonly Correction[], labels: readonly string[]): Promise<void> {
    const unknown = corrections.find(({ label }) => !labels.includes(label));
    if (unknown && !this.settings.newLabels)
      throw new UserError(
        `the model does not know the label ${JSON.stringify(unknown.label)}; it knows ${labels.join(", ")}`,
      );
    const done = this.appending.then(() => appendCorrections(journalPath(this.settings.training), corrections));
    this.appending = done.catch(() => {});
    return done;
  }

  /** Resolves when a run that began after this call has been accepted or found nothing to learn; throws a UserError with the reason otherwise. */
  learn(signal: AbortSignal): Promise<LearnReport> {
    if (this.running) this.next ??= this.running.catch(() => {}).then(() => this.start(signal));
    // Between two runs `running` is undefined while `next` is about to start.
    return this.next ?? this.start(signal);
  }

  /** Makes the service answer with the accepted model, if it died before it could; tells whether that was so. */
  async finish(): Promise<boolean> {
    const isBehind = await this.deployment.isBehind();
    if (isBehind) await this.deployment.put();
    return isBehind;
  }

  /** Takes back the last accepted run; returns the files that it restored. */
  async undo(): Promise<string[]> {
    if (this.running || this.next) throw new UserError("it learns just now: undo when that is done");
    return this.deployment.undo(this.settings.training);
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
    await this.deployment.begin?.();
    const { stdout, stderr } = await runCommand(
      [
        "learn",
        training,
        "--data",
        ...data,
        "--valid",
        ...valid,
        "-o",
        this.deployment.output,
        ...(newLabels ? ["--new-labels"] : []),
        "--json",
      ],
      signal,
    );
    let report: LearnReport;
    try {
      report = JSON.parse(stdout) as LearnReport;
    } catch {
      // Remarks come before it.
      throw new UserError(
        stderr
          .trim()
          .split(/^edgelabel: /m)
          .at(-1)! || "learning broke off",
      );
    }
    if (!isDone(report)) throw new UserError(`the old model stays: ${report.reason}`);
    if (report.accepted) await this.deployment.put();
    else await this.finish();
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
      reject(signal.reason instanceof Error ? signal.reason : new UserError("learning could not be started")),
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
  const tally = new Tally(model.labels);
  for (let first = 0; first < samples.length; first += EVALUATED_AT_ONCE) {
    const part = samples.slice(first, first + EVALUATED_AT_ONCE);
    const { predictions } = await predict(
      service,
      name,
      part.map(({ text }) => text),
      signal,
    );
    predictions.forEach(({ label }, i) => tally.add(part[i]!.label, label));
  }
  const { n, accuracy, coverage, accepted_accuracy, macro_f1, weighted_f1, per_class, unknown_labels } =
    tally.evaluate();
  return {
    version: model.version,
    digest: model.digest,
    n,
    accuracy,
    coverage,
    accepted_accuracy,
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
      return await service.predictor.predict({ requester: "evaluate", model, texts, bytes });
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

function samplesOf(value: unknown, what: string): Correction[] {
  if (!Array.isArray(value)) throw new UserError(`"${what}" must be an array of objects with "text" and "label"`);
  return value.map((item: unknown, i) => {
    const { text, label } = (item ?? {}) as Record<string, unknown>;
    if (typeof text !== "string" || typeof label !== "string")
      throw new UserError(`${what} ${i + 1}: "text" and "label" must be strings`);
    const defect = sampleDefect(label, text);
    if (defect !== undefined) throw new UserError(`${what} ${i + 1}: ${defect}`);
    return { text, label };
  });
}
