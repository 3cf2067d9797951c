// The thread that pool.ts starts: one engine with the model, and a reply to each question.
import { parentPort, workerData } from "node:worker_threads";
import { Classifier } from "./classifier.ts";
import { answer, type Job, type Question } from "./pool.ts";

const { bytes, source } = workerData as Job;
const classifier = await Classifier.fromBytes(bytes, source);
parentPort!.on("message", (question: Question) => parentPort!.postMessage(answer(classifier, question)));
