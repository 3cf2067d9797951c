// The thread that workers.ts starts: one trainer, one shard of each batch.
import { parentPort, workerData } from "node:worker_threads";
import { type Job, work } from "./workers.ts";

await work(workerData as Job, () => parentPort!.postMessage("ready"));
