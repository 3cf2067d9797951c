// The clients of examples/ that need a compiler of their own: Go, here and for ARM, Rust and Java. Building them
// takes minutes, so they run at the long size only.
import { describe, test } from "vitest";
import { describeClient } from "../support/runtimes.ts";
import { go, goArm, java, rust } from "../tools/fetch-runtimes.mjs";
import { isLong } from "./size.ts";

if (isLong) {
  describeClient("Go", go);
  describeClient("Go on ARM", goArm);
  describeClient("Rust", rust);
  describeClient("Java", java);
} else
  describe.skip("Go, Rust and Java (built by npm run test:long)", () => {
    test("skipped", () => {});
  });
