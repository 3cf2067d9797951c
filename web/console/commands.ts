// The commands that the user may give, and how the last ones went.
import { button, element, find, foreign } from "../playground/dom.ts";
import { ask } from "./asking.ts";
import type { Info } from "./info.ts";
import { nameOf, outcomeOf, type Status } from "./outcome.ts";

const SHOWN = 8;

let known = "";

/** Buttons for each model. `onGiven` is called when a command has been given. */
export function showCommands({ models, may }: Info, onGiven: () => void): void {
  find("given").hidden = may.commands.length === 0;
  const said = element("p", { class: "hint", role: "status" });
  const give = (verb: string, args: object): void => {
    said.textContent = "";
    ask(`/commands/${verb}`, args).then(onGiven, (error: Error) => (said.textContent = error.message));
  };
  const rows = models.map(({ name, waiting }) => {
    const buttons = may.commands.flatMap((verb): HTMLElement[] => {
      if (verb === "evaluate") return [button("Evaluate", () => give(verb, { model: name }))];
      if (verb === "learn") return [button("Learn", () => give(verb, { model: name }))];
      if (verb === "rollback")
        return [asking("Roll back", `Answer with the version of ${name} before?`, () => give(verb, { name }))];
      if (verb !== "activate" || !waiting) return [];
      const { version } = waiting;
      return [asking(`Activate ${version}`, `Answer with ${name} ${version}?`, () => give(verb, { name, version }))];
    });
    return element(
      "div",
      { class: "row" },
      element("strong", {}, foreign(name)),
      element("div", { class: "buttons" }, ...buttons),
    );
  });
  find("give").replaceChildren(...rows, said);
}

/** A button that asks again, in place. */
function asking(name: string, question: string, onYes: () => void): HTMLElement {
  const place = element("span");
  const first = button(name, () => {
    const yes = button("Yes", () => {
      place.replaceChildren(first);
      onYes();
    });
    place.replaceChildren(
      `${question} `,
      yes,
      " ",
      button("No", () => place.replaceChildren(first)),
    );
    yes.focus();
  });
  place.append(first);
  return place;
}

/** How the last commands go, the newest first. */
export async function showStatuses(): Promise<void> {
  const { commands } = await ask<{ commands: Status[] }>("/commands");
  const json = JSON.stringify(commands);
  if (json === known) return;
  known = json;
  const items = commands
    .slice(-SHOWN)
    .reverse()
    .map((status) => {
      const model = status["model"] ?? status["name"];
      return element(
        "li",
        { class: status.status },
        element("strong", {}, nameOf(status.verb)),
        ...(typeof model === "string" ? [" ", foreign(model)] : []),
        `: ${outcomeOf(status)}`,
      );
    });
  find("statuses").replaceChildren(...items);
}
