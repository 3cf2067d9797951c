import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    reporters: ["default", "./test/reporter.ts"],
    // The suites train models, start brokers and run other programs.
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
