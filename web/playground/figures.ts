// Figures and messages as people read them in a page.

export function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

/** How long it will take at the speed so far; nothing as long as too little is done to tell. */
export function timeLeft(elapsedMs: number, done: number, total: number): string {
  if (elapsedMs < 1500 || done <= 0 || done >= total) return "";
  const seconds = ((elapsedMs / done) * (total - done)) / 1000;
  if (seconds < 5) return "a few seconds left";
  if (seconds < 90) return `about ${5 * Math.ceil(seconds / 5)} s left`;
  return `about ${Math.ceil(seconds / 60)} min left`;
}

/** A message that speaks of options of the command line. */
export function inPage(message: string): string {
  return message
    .replace(/--(text|label)-column/g, "“$1 column”")
    .replace(/use --format [\w|]+/, "name the file .csv, .tsv, .jsonl or .ft")
    .replace(/--format (\w+)/, "a file name that ends in .$1")
    .replace(/; edgelabel data lists them/, "")
    .replace(/ \(edgelabel data[^)]*\)/, "");
}

/** "calls 2.csv" -> "calls-2": a name for the model and its files. */
export function modelNameOf(file: string): string {
  return (
    file
      .replace(/\.[^.]*$/, "")
      .replace(/[^\p{L}\p{N}]+/gu, "-")
      .replace(/^-+|-+$/g, "")
      .slice(0, 40) || "model"
  );
}
