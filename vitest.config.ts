import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    reporters: ["default", "./test/support/reporter.ts"],
    setupFiles: [fileURLToPath(new URL("test/support/fast-check.ts", import.meta.url))],
    // The suites train models, start brokers and run other programs.
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
