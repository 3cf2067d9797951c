// Without this, fast-check makes no array or string longer than 10, whatever `maxLength` a property names.
import fc from "fast-check";

fc.configureGlobal({
  defaultSizeToMaxWhenMaxSpecified: true,
  // A commit has one verdict.
  seed: Number(process.env["EDGELABEL_SEED"] ?? 1),
  // `npm run test:fast` tries fewer cases.
  ...(process.env["EDGELABEL_FAST"] ? { interruptAfterTimeLimit: 300, markInterruptAsFailure: false } : {}),
});
