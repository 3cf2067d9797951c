// What the console's page asks the service: what is going on, commands and how they go, and texts to label (see
// deploy/README.md and docs/openapi.json). A user needs the right to publish the command over MQTT; whoever may have a
// model learn may see the texts that wait for a label. Without users, only this machine may, and only if its programs may use the broker freely, too.
import * as v from "valibot";
import { EdgelabelError } from "../../errors.ts";
import type { Learner } from "../control/learning.ts";
import type { Review } from "../control/review.ts";
import { RequestError } from "../answer/messages.ts";
import type { Service } from "../service.ts";
import { HttpError } from "./error.ts";
import type { HttpUser } from "./login.ts";

export interface ConsoleOptions {
  /** By model. */
  learners: ReadonlyMap<string, Learner>;
  /** Absent when no texts are kept for review. */
  review?: Review | undefined;
  /** Whether everyone may give commands who reaches HTTP. With users, it is their rights that count. */
  isOpen: boolean;
}

/** Those that need no parts, and are for people. */
const VERBS = ["activate", "rollback", "evaluate", "learn"];
/** Texts to label that the page gets at a time. */
const TEXTS = 20;

const judgement = v.union([
  v.strictObject({ id: v.number(), label: v.union([v.string(), v.array(v.string())]) }),
  v.strictObject({ id: v.number(), skip: v.literal(true) }),
  v.strictObject({ undo: v.literal(true) }),
  v.strictObject({ learn: v.literal(true) }),
]);

export class Console {
  private readonly service: Service;
  private readonly options: ConsoleOptions;

  constructor(service: Service, options: ConsoleOptions) {
    this.service = service;
    this.options = options;
  }

  /** What the node says about itself, and what this user may do here. */
  info(user: HttpUser | undefined): object {
    return {
      ...this.service.info(),
      may: {
        commands: VERBS.filter((verb) => this.may(verb, user)),
        review: this.options.review !== undefined && this.may("learn", user),
      },
    };
  }

  /** The last commands with their statuses, oldest first, of the kinds that the user may give. */
  statuses(user: HttpUser | undefined): object[] {
    return (this.service.commands?.statuses() ?? []).filter(({ verb }) => this.may(verb, user));
  }

  /** Gives a command; its statuses tell how it goes. */
  command(verb: string, args: unknown, user: HttpUser | undefined): { id: string } {
    if (!VERBS.includes(verb))
      throw new HttpError(404, `there is no such command here; the commands are ${VERBS.join(", ")}`);
    this.require(verb, user);
    if (typeof args !== "object" || args === null || Array.isArray(args))
      throw new RequestError("bad_request", "the body must be a JSON object");
    return { id: this.service.commands!.start(verb, args as Record<string, unknown>) };
  }

  /** Texts of the model to label, the most telling first. */
  review(name: string, user: HttpUser | undefined): object {
    const review = this.requireReview(user);
    const { name: model, model: { labels, isMultiLabel } } = this.service.predictor.model(name); // prettier-ignore
    const learner = this.options.learners.get(model);
    return {
      model,
      labels,
      multiLabel: isMultiLabel || undefined,
      newLabels: learner?.takesNewLabels ?? true,
      canLearn: learner !== undefined && this.service.commands !== undefined,
      waiting: review.waiting,
      labelled: review.corrections(model).length,
      texts: review.next(model, TEXTS),
    };
  }

  /** A label, a skip, an undo, or "learn", which gives the command. */
  async judge(name: string, body: unknown, user: HttpUser | undefined): Promise<object> {
    const review = this.requireReview(user);
    const wanted = v.safeParse(judgement, body);
    if (!wanted.success)
      throw new RequestError(
        "bad_request",
        'the body must be {"id": NUMBER, "label": "a label"} or a list of them, {"id": NUMBER, "skip": true}, {"undo": true} or {"learn": true}',
      );
    const { output } = wanted;
    try {
      if ("learn" in output) return await this.learn(name, review, user);
      if ("undo" in output) review.undo(this.service.predictor.model(name).name);
      else review.judge(output.id, "label" in output ? output.label : undefined);
    } catch (error) {
      if (error instanceof EdgelabelError) throw new RequestError("bad_request", error.message);
      throw error;
    }
    return this.review(name, user);
  }

  /** The labels that wait, as JSON lines. */
  corrections(name: string, user: HttpUser | undefined): string {
    const { name: model } = this.service.predictor.model(name);
    return this.requireReview(user)
      .corrections(model)
      .map(({ text, label, labels }) => `${JSON.stringify({ text, label: labels ?? label })}\n`)
      .join("");
  }

  private async learn(name: string, review: Review, user: HttpUser | undefined): Promise<object> {
    const { name: model, model: { labels } } = this.service.predictor.model(name); // prettier-ignore
    const learner = this.options.learners.get(model);
    if (!learner || !this.service.commands)
      throw new EdgelabelError(
        `${model} cannot learn here: give "learning" in the configuration file its training form and data, and turn "commands" on; or export the labels`,
      );
    await review.learn(model, async (corrections) => learner.keep(corrections, labels));
    return this.command("learn", { model }, user);
  }

  private may(verb: string, user: HttpUser | undefined): boolean {
    return this.service.commands !== undefined && this.hasRight(verb, user);
  }

  private hasRight(verb: string, user: HttpUser | undefined): boolean {
    return user ? user.mayCommand(verb) : this.options.isOpen;
  }

  private require(verb: string, user: HttpUser | undefined): void {
    if (!this.service.commands)
      throw new HttpError(403, 'commands are off: set "commands" to true in the configuration file');
    if (!this.may(verb, user))
      throw new HttpError(
        403,
        user
          ? `this user may not give the command ${verb}`
          : 'commands over HTTP need a login: give "users" in the configuration file',
      );
  }

  private requireReview(user: HttpUser | undefined): Review {
    const { review } = this.options;
    if (!review) throw new HttpError(404, 'no texts are kept for review: set "review" in the configuration file');
    if (!this.hasRight("learn", user))
      throw new HttpError(403, "these texts are for users who may have the model learn");
    return review;
  }
}
