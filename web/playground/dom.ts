// Elements of the page. Whatever others wrote gets in as text, never as markup.

type Content = Node | string | undefined;

/** An element with attributes; `undefined` and `false` leave one out, `true` has no value. */
export function element<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  attributes: Readonly<Record<string, string | number | boolean | undefined>> = {},
  ...content: Content[]
): HTMLElementTagNameMap[Name] {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes))
    if (value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : String(value));
  made.append(...content.filter((each) => each !== undefined));
  return made;
}

/** A label or another name that others chose, which may run in the other direction. */
export function foreign(text: string): HTMLElement {
  return element("bdi", {}, text);
}

export function button(name: string, onClick: () => void, kind = ""): HTMLButtonElement {
  const made = element("button", { type: "button", class: kind }, name);
  made.addEventListener("click", onClick);
  return made;
}

export function find(id: string): HTMLElement {
  return document.getElementById(id)!;
}

/** A bar that is filled by a share; a style attribute would be against the page's policy. */
export function bar(share: number, kind = ""): HTMLElement {
  const fill = element("i");
  fill.style.width = `${100 * share}%`;
  return element("span", { class: `bar ${kind}`, "aria-hidden": "true" }, fill);
}

/** A table that scrolls by itself on a narrow screen, also by keyboard. */
export function scrolling(name: string, content: HTMLElement, kind = ""): HTMLElement {
  return element("div", { class: `wide ${kind}`, role: "region", "aria-label": name, tabindex: 0 }, content);
}

/** A picture that the host's code has drawn, in whose markup all names are escaped. */
export function picture(svg: string): SVGElement {
  const drawn = new DOMParser().parseFromString(svg, "text/html").querySelector("svg")!;
  return document.importNode(drawn, true);
}

/** Hands a file to the user. */
export function download(name: string, bytes: Uint8Array): void {
  const url = URL.createObjectURL(new Blob([bytes as Uint8Array<ArrayBuffer>], { type: "application/octet-stream" }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** A line of a terminal with a button that copies it. */
export function commandLine(command: string): HTMLElement {
  const copy = button("Copy", () => {
    void navigator.clipboard.writeText(command).then(
      () => (copy.textContent = "Copied"),
      () => (copy.textContent = "Not allowed here"),
    );
    setTimeout(() => (copy.textContent = "Copy"), 2000);
  });
  return element("div", { class: "command" }, element("code", { tabindex: 0 }, command), copy);
}
