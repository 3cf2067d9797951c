// The endurance tests run twice: short in every test run, and at the size the
// figures are claimed for by `npm run test:long`.
export const isLong = process.env["EDGELABEL_LONG"] === "1";

/** The count or duration for this run. */
export function size(long: number, short: number): number {
  return isLong ? long : short;
}
