// The thread that selftest.ts lets a model try itself in; says what is wrong, or nothing.
import { parentPort, workerData } from "node:worker_threads";
import { tryHere } from "./golden.ts";
import type { Candidate } from "./golden.ts";

parentPort!.postMessage(await tryHere(workerData as Candidate).then(() => undefined, (error: Error) => error.message));
