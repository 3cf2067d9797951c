// The models of a registry at work in a service: what is active there is what answers,
// from the start and after every change, whoever makes it. A new version is on trial for
// its first answers; one that fails then, or that the service does not get through its
// first starts with, makes room for the one before.
import type { Classifier } from "../classifier.ts";
import { UserError } from "../errors.ts";
import type { Log } from "../service/log.ts";
import type { Model } from "../service/predictor.ts";
import type { Service } from "../service/service.ts";
import type { OpenModel, Registry, VersionInfo } from "./registry.ts";
import type { Version } from "./store.ts";

/** So often is looked whether another process has changed the registry. */
const LOOK_MS = 1_000;
/** A version has proven itself after so many answers, or so long a life. */
const TRIAL_ANSWERS = 100;
const TRIAL_MS = 60_000;
/** So many failures among its first answers, and it is rolled back. */
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
  /** Failures to count as soon as there is a service. */
  private readonly uncounted: string[] = [];
  /** Id of the version that answers for each name. */
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

  /** The active model of every name, each tested. */
  async open(): Promise<Map<string, Classifier>> {
    const { store } = this.registry;
    const { models, made = "new" } = await store.read();
    if (made !== "new") this.log.warn(`the state of the registry ${store.folder} is ${made}; its copy is used, or what the updates in the folder tell`);
    await this.attempt(async () => {
      await store.change(() => {});
      await store.clean();
    });
    const open = new Map<string, Classifier>();
    for (const { name } of models) {
      const found = await this.registry.open(name, (version, reason) => this.onFailed(name, version, reason), true);
      if (!found) continue;
      this.served.set(name, found.id);
      if (found.isOnTrial) this.onTrial(name, found);
      open.set(name, found.classifier);
    }
    return open;
  }

  /** From here on the service follows the registry. */
  attach(service: Service): void {
    this.service = service;
    for (const model of this.uncounted.splice(0)) service.metrics.modelFailures.inc({ model });
    service.predictor.observer = (name, model, failure) => this.onAnswer(name, model, failure);
    this.timers.add(setInterval(() => void this.attempt(() => this.follow()), LOOK_MS));
  }

  /** A stop is no crash: it does not count against a version on trial. */
  async stop(): Promise<void> {
    for (const timer of this.timers) clearInterval(timer);
    for (const [name, { id }] of this.trials) await this.attempt(() => this.registry.endStart(name, id));
  }

  /** Makes the service serve what the registry says; resolves when it does. */
  follow(): Promise<void> {
    const done = this.queue.then(() => this.followOnce());
    this.queue = done.catch(() => {});
    return done;
  }

  /** The version that a command asked for, at work; throws when it is not, and says why. */
  async require({ name, id }: VersionInfo): Promise<VersionInfo> {
    await this.follow();
    const found = (await this.registry.versions()).find((version) => version.id === id);
    if (found && (found.state === "waiting" || this.served.get(name) === id)) return found;
    throw new UserError(`this version of ${name} is not served: ${found?.failed ?? "another one took its place"}`);
  }

  /** Names that the service was given as files are not the registry's. */
  requireOurs(name: string): void {
    if (this.service?.predictor.models.has(name) && !this.served.has(name)) throw new UserError(`${name} is a model file that the service was started with; the registry cannot change it`);
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
      this.log.info(`model ${name} is version ${found.classifier.version} now`, { model: name, version: found.classifier.version, digest: found.classifier.digest });
    }
    const versions = await this.registry.versions();
    for (const name of this.served.keys()) {
      const own = versions.filter((version) => version.name === name);
      // Newest first: what came after the active one.
      const newer = own.slice(0, own.findIndex(({ state }) => state === "active"));
      service.setWaiting(name, newer.find(({ state }) => state === "waiting"));
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
      void this.rollback(name, trial.id, `${TRIAL_FAILURES} of its first ${trial.answers} answers failed (${failure.message})`);
    } else if (trial.answers === TRIAL_ANSWERS) this.endTrial(name, trial);
  }

  /** It has proven itself: no later failure counts against it. */
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

  /** What the registry cannot note down (a full or read-only disk) does not keep the service from answering. */
  private async attempt(work: () => Promise<unknown>): Promise<void> {
    let fault = "";
    try {
      await work();
    } catch (error) {
      fault = (error as Error).message;
      // For a disk that stays full, one line says it all.
      if (fault !== this.lastFault) this.log.warn(fault);
    }
    this.lastFault = fault;
  }
}
