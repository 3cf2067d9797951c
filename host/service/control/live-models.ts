// Serves the models of a registry: the active versions answer, and the service follows every change
// to the registry, including those by other processes. A new version is on trial first: if its first
// answers fail, or the service repeatedly crashes while starting with it, the previous version
// comes back.
import type { ModelFile } from "../../model/file.ts";
import { EdgelabelError } from "../../errors.ts";
import type { Log } from "../log.ts";
import type { Model } from "../answer/predictor.ts";
import type { Service } from "../service.ts";
import type { OpenModel, Registry } from "../../registry/registry.ts";
import type { Version, VersionInfo } from "../../registry/state.ts";

/** How often it checks whether another process has changed the registry. */
const LOOK_MS = 1_000;
/** How often it lets the registry note the time, which writes once a day. */
const NOTE_MS = 3_600_000;
/** A trial is passed after so many answers, or after this time. */
const TRIAL_ANSWERS = 100;
const TRIAL_MS = 60_000;
/** After so many failures among its first answers a version is rolled back. */
const TRIAL_FAILURES = 3;

interface Trial {
  id: string;
  model: Model;
  answers: number;
  failures: number;
}

export class LiveModels {
  readonly registry: Registry;
  private readonly log: Log;
  private readonly trialMs: number;
  private service: Service | undefined;
  /** Names of models that failed before there was a service to count them. */
  private readonly uncounted: string[] = [];
  /** For each name, the id of the version that answers. */
  private readonly served = new Map<string, string>();
  private readonly trials = new Map<string, Trial>();
  private readonly timers = new Set<NodeJS.Timeout>();
  private revision = -1;
  private lastFault = "";
  private queue: Promise<unknown> = Promise.resolve();

  constructor(registry: Registry, log: Log, trialMs = TRIAL_MS) {
    this.registry = registry;
    this.log = log;
    this.trialMs = trialMs;
  }

  /** Opens and tests the active version of every name. */
  async open(): Promise<Map<string, ModelFile>> {
    const { store } = this.registry;
    const { models, made = "new" } = await store.read();
    if (made !== "new")
      this.log.warn(
        `the state of the registry ${store.folder} is ${made}; its copy is used, or what the updates in the folder tell`,
      );
    await this.attempt(async () => {
      await store.change(() => {});
      await store.clean();
    });
    const open = new Map<string, ModelFile>();
    for (const { name } of models) {
      const found = await this.registry.open(name, (version, reason) => this.onFailed(name, version, reason), "start");
      if (!found) continue;
      this.served.set(name, found.id);
      if (found.isOnTrial) this.onTrial(name, found);
      open.set(name, found.classifier);
    }
    return open;
  }

  /** From here on, the service follows the registry. */
  attach(service: Service): void {
    this.service = service;
    for (const model of this.uncounted.splice(0)) service.metrics.modelFailures.inc({ model });
    service.predictor.observer = (name, model, failure) => this.onAnswer(name, model, failure);
    this.timers.add(setInterval(() => void this.attempt(() => this.follow()), LOOK_MS));
    this.timers.add(setInterval(() => void this.attempt(() => this.registry.store.change(() => {})), NOTE_MS));
  }

  /** An orderly stop does not count against a version on trial; a crash does. */
  async stop(): Promise<void> {
    for (const timer of this.timers) clearInterval(timer);
    for (const [name, { id }] of this.trials) await this.attempt(() => this.registry.endStart(name, id));
  }

  /** Resolves when the service serves what is active in the registry. */
  follow(): Promise<void> {
    const done = this.queue.then(() => this.followOnce());
    this.queue = done.catch(() => {});
    return done;
  }

  /** Resolves when the version that a command has chosen is served, or waits to be activated; throws an EdgelabelError with the reason if it is not. */
  async require({ name, id }: VersionInfo): Promise<VersionInfo> {
    await this.follow();
    const found = (await this.registry.versions()).find((version) => version.id === id);
    if (found && (found.state === "waiting" || this.served.get(name) === id)) return found;
    throw new EdgelabelError(`this version of ${name} is not served: ${found?.failed ?? "another one took its place"}`);
  }

  /** Throws an EdgelabelError if the service was given a model of that name as a file, which the registry cannot change. */
  requireOurs(name: string): void {
    if (this.service?.predictor.models.has(name) && !this.served.has(name))
      throw new EdgelabelError(
        `${name} is a model file that the service was started with; the registry cannot change it`,
      );
  }

  /** Throws an EdgelabelError if no other model is served: who is far away should not leave the service without one. */
  requireAnother(name: string): void {
    const { models } = this.service!.predictor;
    if (models.has(name) && models.size === 1)
      throw new EdgelabelError(`${name} is the only model that is served; install another one first`);
  }

  private async followOnce(): Promise<void> {
    const service = this.service!;
    const { models, revision } = await this.registry.store.read();
    if (revision === this.revision) return;
    for (const { name, active } of models) {
      const isForeign = service.predictor.models.has(name) && !this.served.has(name);
      if (active === this.served.get(name) || isForeign) continue;
      if (active === undefined) {
        if (service.removeModel(name)) this.served.delete(name);
        continue;
      }
      const found = await this.registry.open(name, (version, reason) => this.onFailed(name, version, reason));
      if (!found || found.id === this.served.get(name)) continue;
      this.served.set(name, found.id);
      if (found.isOnTrial) this.onTrial(name, found);
      else this.trials.delete(name);
      service.setModel(name, found.classifier);
      if (found.classifier.warning !== undefined) this.log.warn(`warning: ${found.classifier.warning}`);
      this.log.info(`model ${name} is version ${found.classifier.version} now`, {
        model: name,
        version: found.classifier.version,
        digest: found.classifier.digest,
      });
    }
    const versions = await this.registry.versions();
    for (const name of this.served.keys()) {
      const own = versions.filter((version) => version.name === name);
      // The list is newest first, so those before the active one are newer.
      const newer = own.slice(
        0,
        own.findIndex(({ state }) => state === "active"),
      );
      service.setWaiting(
        name,
        newer.find(({ state }) => state === "waiting"),
      );
    }
    this.revision = revision;
  }

  private onTrial(name: string, { id, classifier }: OpenModel): void {
    const trial: Trial = { id, model: classifier, answers: 0, failures: 0 };
    this.trials.set(name, trial);
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      if (this.trials.get(name) === trial) this.endTrial(name, trial);
    }, this.trialMs);
    timer.unref();
    this.timers.add(timer);
  }

  private onAnswer(name: string, model: Model, failure: Error | undefined): void {
    const trial = this.trials.get(name);
    if (trial?.model !== model) return;
    trial.answers++;
    if (failure && ++trial.failures === TRIAL_FAILURES) {
      this.trials.delete(name);
      void this.rollback(
        name,
        trial.id,
        `${TRIAL_FAILURES} of its first ${trial.answers} answers failed (${failure.message})`,
      );
    } else if (trial.answers === TRIAL_ANSWERS) this.endTrial(name, trial);
  }

  /** Passes a trial: later failures do not count. */
  private endTrial(name: string, { id }: Trial): void {
    this.trials.delete(name);
    void this.attempt(() => this.registry.prove(name, id));
  }

  private rollback(name: string, id: string, reason: string): Promise<void> {
    return this.attempt(async () => {
      const version = (await this.registry.versions()).find((each) => each.id === id);
      if (version) this.onFailed(name, version, reason);
      await this.registry.reject(name, id, reason);
      await this.follow();
    });
  }

  private onFailed(name: string, { version }: Version, reason: string): void {
    if (this.service) this.service.metrics.modelFailures.inc({ model: name });
    else this.uncounted.push(name);
    this.log.error(`version ${version} of model ${name} failed: ${reason}`, { model: name, version });
  }

  /** Logs a failure instead of throwing it: the service goes on answering when the registry cannot be written (a full or read-only disk). */
  private async attempt(work: () => Promise<unknown>): Promise<void> {
    let fault = "";
    try {
      await work();
    } catch (error) {
      fault = (error as Error).message;
      // The same fault in a row, such as a full disk, is logged once.
      if (fault !== this.lastFault) this.log.warn(fault);
    }
    this.lastFault = fault;
  }
}
