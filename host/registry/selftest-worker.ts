// The thread in which selftest.ts tests a model: posts what is wrong with it, or undefined.
import { parentPort, workerData } from "node:worker_threads";
import { tryHere } from "./golden.ts";
import type { Candidate } from "./golden.ts";

parentPort!.postMessage(await tryHere(workerData as Candidate).then(() => undefined, (error: Error) => error.message));
