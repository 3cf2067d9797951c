import { fileURLToPath } from "node:url";
import { configDefaults, defineConfig } from "vitest/config";

/** Left out by `npm run test:fast`: what trains, or runs a broker, a browser or the whole program. */
const SLOW = [
  "test/{integration,long,web}/**",
  "test/assembly/{evil,wasi,work}.test.ts",
  "test/assembly/text/clean.test.ts",
  "test/assembly/train/{gradient,run}.test.ts",
  "test/host/{commands,keras,onnx,registry,training}/**",
  "test/host/program-name.test.ts",
  "test/host/data/report.test.ts",
  "test/host/files/{lock,read}.test.ts",
  "test/host/model/{container,engine,explanation}.test.ts",
  "test/host/report/rejection-curve.test.ts",
  "test/host/service/{broker,control,http}/**",
  "test/host/service/answer/{guard,routes}.test.ts",
  "test/host/service/{service,users,watchdog}.test.ts",
  "test/host/service/mqtt/quiet.test.ts",
];

export default defineConfig(({ mode }) => ({
  test: {
    include: ["test/**/*.test.ts"],
    exclude: [...configDefaults.exclude, ...(mode === "fast" ? SLOW : [])],
    reporters: ["default", "./test/support/reporter.ts"],
    setupFiles: [fileURLToPath(new URL("test/support/fast-check.ts", import.meta.url))],
    // The suites train models, start brokers and run other programs.
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
}));
