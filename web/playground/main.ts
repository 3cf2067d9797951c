// The playground: a page that tries models and trains them, in the browser alone. Here are its two
// sides, the files that are opened or dropped, and the lock that keeps everything inside.
import { open, type Model } from "../index.ts";
import { asAsked, createAskBox, describeModel } from "./ask.ts";
import { element, find, foreign } from "./dom.ts";
import { createTraining } from "./train.ts";

/** A model of the example messages that come with edgelabel, and what to ask it. */
const EXAMPLE = "example.elb";
const EXAMPLE_TEXTS = [
  "dim the lamp over the sofa",
  "pressure sensor 5 timeout, motor stopped",
  "wake me at half past six",
  "明天会下雨吗",
  "lorem ipsum dolor sit amet",
];
const MODEL_NAME = /\.(wasm|elb)$/i;

const note = find("note");
const ask = createAskBox("text");
find("ask").append(ask.root);
const training = createTraining((model, bytes, examples) => {
  use(model, bytes, examples);
  select("try");
  ask.focus();
});
find("train").append(training.root);

function say(message: string): void {
  note.textContent = message;
  note.hidden = message === "";
}

// --- models ----------------------------------------------------------------------------

function use(model: Model, fileBytes: number, examples: readonly string[]): void {
  say("");
  find("card").replaceChildren(
    element("strong", {}, foreign(model.name)),
    " ",
    element("span", {}, describeModel(model, fileBytes)),
  );
  ask.use(asAsked(model), examples);
}

async function openFile(file: File): Promise<void> {
  try {
    use(await open(file), file.size, []);
    ask.focus();
  } catch (error) {
    say(`This file cannot be used. ${(error as Error).message}`);
  }
}

/** The example, or the model that the page's address names with ?model=. */
async function openFirst(): Promise<void> {
  const asked = new URLSearchParams(location.search).get("model");
  try {
    const url = new URL(asked ?? EXAMPLE, location.href);
    if (url.origin !== location.origin) {
      say(
        `${url.origin} is another site, and this page may connect to none. Download the model there, and drop it here.`,
      );
      return;
    }
    const response = await fetch(url);
    const bytes = new Uint8Array(await response.clone().arrayBuffer());
    use(await open(response), bytes.length, asked === null ? EXAMPLE_TEXTS : []);
  } catch (error) {
    say(`The model cannot be used. ${(error as Error).message}`);
  }
}

/** From here on, nothing can leave the page, not even to its own server: policies add up. Scripts are still loaded from there, for training. */
function lock(): void {
  const content = "connect-src 'none'; style-src 'none'";
  document.head.append(element("meta", { "http-equiv": "Content-Security-Policy", content }));
}

// --- the two sides -----------------------------------------------------------------------

const sides = ["try", "train"] as const;

function select(side: (typeof sides)[number]): void {
  for (const each of sides) {
    find(each).hidden = each !== side;
    find(`${each}-tab`).setAttribute("aria-selected", String(each === side));
    find(`${each}-tab`).tabIndex = each === side ? 0 : -1;
  }
}

for (const side of sides) {
  const tab = find(`${side}-tab`);
  tab.addEventListener("click", () => select(side));
  tab.addEventListener("keydown", ({ key }) => {
    if (key !== "ArrowLeft" && key !== "ArrowRight") return;
    const other = side === "try" ? "train" : "try";
    select(other);
    find(`${other}-tab`).focus();
  });
}

// --- files -------------------------------------------------------------------------------

const input = find("model") as HTMLInputElement;
find("open").addEventListener("click", () => input.click());
input.addEventListener("change", () => {
  const [file] = input.files!;
  // So that the same file can be chosen again.
  if (file) void openFile(file).then(() => (input.value = ""));
});

const drop = find("drop");
let depth = 0;
addEventListener("dragenter", () => (drop.hidden = ++depth === 0));
addEventListener("dragleave", () => (drop.hidden = --depth === 0));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  drop.hidden = true;
  const [file] = event.dataTransfer?.files ?? [];
  if (!file) return;
  say("");
  if (MODEL_NAME.test(file.name)) {
    select("try");
    void openFile(file);
  } else {
    select("train");
    void training.read(file);
  }
});

say("");
await openFirst();
lock();
