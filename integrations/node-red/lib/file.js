// A model file: opened once for all nodes, and opened again when it has been trained or has learnt. Training and
// learning take seconds to minutes, so they run in processes of their own, one at a time for each model.
const { basename } = require("node:path");
const { learn, train } = require("./background.js");

class ModelFile {
  #node;
  #path;
  #say;
  #opened;
  /** The run that has not begun yet: what it learns, from which files, and its report. */
  #waiting;
  #work = Promise.resolve();
  #closing = new AbortController();

  /** `node` shows what becomes of the file by its `status`; `say` gives the sentences of a key. */
  constructor(node, path, say) {
    this.#node = node;
    this.#path = path;
    this.#say = say;
    this.#open();
  }

  #open() {
    const opened = import("edgelabel").then(({ open }) => open(this.#path));
    this.#opened = opened;
    opened.then(
      ({ name, version }) =>
        this.#show(opened, { fill: "green", shape: "dot", text: this.#say("status.open", { name, version }) }),
      () => this.#show(opened, { fill: "red", shape: "ring", text: this.#say("status.no-file") }),
    );
    return opened;
  }

  #show(opened, status) {
    if (opened === this.#opened) this.#node.status(status);
  }

  async classify(text, options) {
    return (await this.#opened).classify(text, options);
  }

  /** The report of `edgelabel learn`. Corrections that come during a run are learnt together by the next one, if they are for the same files. */
  learn(corrections, { data, valid, newLabels }) {
    if (!data || !valid) throw new Error(this.#say("error.no-hold-out"));
    const options = JSON.stringify([data, valid, newLabels]);
    if (this.#waiting?.options !== options) {
      const run = { options, corrections: [] };
      run.report = this.#next((signal) => {
        if (this.#waiting === run) this.#waiting = undefined;
        return learn({ ...this.#files, corrections: run.corrections, data, valid, newLabels }, signal);
      });
      this.#waiting = run;
    }
    this.#waiting.corrections.push(...corrections);
    return this.#waiting.report;
  }

  train(job, onProgress) {
    const { deployed, training } = this.#files;
    const name = basename(training, ".elb");
    return this.#next((signal) => train({ ...job, name, deployed, training }, { signal, onProgress }));
  }

  /** The deployable, if that is what the nodes use, and the training form beside it. */
  get #files() {
    const training = this.#path.replace(/\.wasm$/, ".elb");
    if (!training.endsWith(".elb")) throw new Error(this.#say("error.bad-name", { file: this.#path }));
    return { deployed: training === this.#path ? undefined : this.#path, training };
  }

  /** Runs `work` when what was begun before has ended, then opens the file that it has written. */
  #next(work) {
    const result = this.#work.then(async () => {
      const { signal } = this.#closing;
      signal.throwIfAborted();
      const report = await work(signal);
      signal.throwIfAborted();
      await this.#open();
      return report;
    });
    this.#work = result.catch(() => {});
    return result;
  }

  close(done) {
    this.#closing.abort(new Error(this.#say("error.redeployed")));
    done();
  }
}

module.exports = { ModelFile };
