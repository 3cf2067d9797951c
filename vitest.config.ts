import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { configDefaults, defineConfig } from "vitest/config";

/** Left out by `npm run test:fast`: what trains, or runs a broker, a browser or another program. */
const SLOW = [
  "test/{integration,long,web}/**",
  "test/assembly/{evil,wasi,work}.test.ts",
  "test/assembly/train/{gradient,run}.test.ts",
  "test/host/commands/{ask,export,prune,serve,train}.test.ts",
  "test/host/keras/export.test.ts",
  "test/host/onnx/**",
  "test/host/data/report.test.ts",
  "test/host/files/{lock,read}.test.ts",
  "test/host/model/{container,engine,explanation}.test.ts",
  "test/host/registry/{disk,registry}.test.ts",
  "test/host/report/rejection-curve.test.ts",
  "test/host/service/{broker,control}/**",
  "test/host/service/http/{body,fuzz,hosts,http,login,predict}.test.ts",
  "test/host/service/answer/{guard,routes}.test.ts",
  "test/host/service/{service,users,watchdog}.test.ts",
  "test/host/service/mqtt/quiet.test.ts",
  "test/host/training/{calibration,learn,workers}.test.ts",
  "test/rules/canary.test.ts",
];

export default defineConfig(({ mode }) => ({
  test: {
    include: ["test/**/*.test.ts"],
    exclude: [...configDefaults.exclude, ...(mode === "fast" ? SLOW : [])],
    // A process for each file loads all that they import anew. The fast ones leave nothing behind that another would notice.
    isolate: mode !== "fast",
    // By default one core stays free, which on two cores leaves one worker; most tests wait for other programs anyway.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    reporters: ["default", "./test/support/reporter.ts"],
    env: mode === "fast" ? { EDGELABEL_FAST: "1" } : {},
    setupFiles: [fileURLToPath(new URL("test/support/fast-check.ts", import.meta.url))],
    // The suites train models, start brokers and run other programs.
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
}));
