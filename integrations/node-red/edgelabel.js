// The nodes: a model, which is a configuration node and holds the only engine for all nodes that use it, and
// what is done with it: classify, learn, train.
const { resolve } = require("node:path");
const { ModelFile } = require("./lib/file.js");
const { ServiceModel } = require("./lib/service.js");

module.exports = function (RED) {
  const say = (key, values) => RED._(`edgelabel.${key}`, values);

  /** As Node-RED's own file nodes have it, but below the user's folder where they would use the process's. */
  const pathOf = (file) =>
    file ? resolve(RED.settings.fileWorkingDirectory || RED.settings.userDir || "", file) : undefined;

  function ModelNode(config) {
    RED.nodes.createNode(this, config);
    const users = new Set();
    let last = {};
    // The broker's node shows the state of the connection by this method, as it does for MQTT's own nodes.
    this.status = (status) => {
      last = status;
      for (const user of users) user.status(status);
    };
    this.watch = (user) => {
      users.add(user);
      user.status(last);
      user.on("close", () => users.delete(user));
    };
    if (config.source === "service") {
      const broker = RED.nodes.getNode(config.broker);
      this.model = broker && config.node ? new ServiceModel(this, broker, config, say) : undefined;
    } else this.model = config.file ? new ModelFile(this, pathOf(config.file), say) : undefined;
    this.on("close", (removed, done) => (this.model ? this.model.close(done) : done()));
  }

  /** The model of a node; throws where there is none, or one that is not set up. */
  function modelOf(config) {
    const found = RED.nodes.getNode(config.model);
    if (!found) throw new Error(say("error.no-model"));
    if (!found.model) throw new Error(say("error.incomplete-model"));
    return found.model;
  }

  function onInput(node, handle) {
    node.on("input", async (msg, send, done) => {
      try {
        await handle(msg, send);
        done();
      } catch (error) {
        done(error);
      }
    });
  }

  /** The text of a payload, as a string or bytes. */
  function textOf(payload) {
    if (typeof payload === "string" || Buffer.isBuffer(payload)) return payload;
    if (typeof payload === "number") return String(payload);
    throw new Error(say("error.no-text", { type: kindOf(payload) }));
  }

  function kindOf(value) {
    if (value === undefined || value === null) return say("kind.missing");
    return say(Array.isArray(value) ? "kind.array" : `kind.${typeof value}`);
  }

  function ClassifyNode(config) {
    RED.nodes.createNode(this, config);
    const options = {
      threshold: Number(config.threshold) || undefined,
      topK: Number(config.scores) || undefined,
      explain: config.explain || undefined,
    };
    RED.nodes.getNode(config.model)?.watch(this);
    onInput(this, async (msg, send) => {
      const answer = await modelOf(config).classify(textOf(msg.payload), options);
      msg.label = answer.label;
      msg.score = answer.score;
      for (const name of ["labels", "scores", "explanation"])
        if (answer[name] !== undefined) msg[name] = answer[name];
        // What an earlier node left there must not pass for this one's.
        else delete msg[name];
      send(answer.unknown ? [null, msg] : [msg, null]);
    });
  }

  /** `[{ text, label }]` of a message: a text with `msg.label`, one such object, or an array of them. A label may be a list. */
  function correctionsOf({ payload, label }) {
    const given = [
      typeof payload === "string" || typeof payload === "number" || Buffer.isBuffer(payload)
        ? { text: textOf(payload).toString(), label }
        : payload,
    ].flat();
    const isLabel = (label) =>
      typeof label === "string" || (Array.isArray(label) && label.every((each) => typeof each === "string"));
    if (given.length === 0 || !given.every((each) => typeof each?.text === "string" && isLabel(each.label)))
      throw new Error(say("error.no-correction"));
    return given.map(({ text, label }) => ({ text, label }));
  }

  /** Shows what a node does that takes its time. */
  async function shown(node, what, work) {
    const show = (text) => node.status({ fill: "blue", shape: "dot", text });
    show(say(`status.${what}`));
    try {
      const result = await work(show);
      node.status({ fill: "green", shape: "dot", text: say(`status.${what}-done`) });
      return result;
    } catch (error) {
      node.status({ fill: "red", shape: "ring", text: say(`status.${what}-failed`) });
      throw error;
    }
  }

  function LearnNode(config) {
    RED.nodes.createNode(this, config);
    const files = { data: pathOf(config.data), valid: pathOf(config.valid), newLabels: config.newLabels };
    onInput(this, async (msg, send) => {
      const model = modelOf(config);
      const corrections = correctionsOf(msg);
      msg.payload = await shown(this, "learning", () => model.learn(corrections, files));
      send(msg);
    });
  }

  function TrainNode(config) {
    RED.nodes.createNode(this, config);
    const [, percent] = /^\s*(\d+(?:\.\d+)?)\s*%\s*$/.exec(config.valid ?? "") ?? [];
    const settings = {
      valid: percent === undefined ? pathOf(config.valid) : Number(percent) / 100,
      unknown: Number(config.unknown) / 100 || undefined,
    };
    onInput(this, async (msg, send) => {
      const model = modelOf(config);
      const texts = config.data ? pathOf(config.data) : msg.payload;
      if (!(typeof texts === "string" || Buffer.isBuffer(texts) || Array.isArray(texts)))
        throw new Error(say("error.no-texts", { type: kindOf(texts) }));
      msg.payload = await shown(this, "training", (show) =>
        model.train({ ...settings, [config.data ? "file" : "texts"]: texts }, (done, total) =>
          show(say("status.epoch", { done: Math.ceil(done), total })),
        ),
      );
      send(msg);
    });
  }

  RED.nodes.registerType("edgelabel-model", ModelNode);
  RED.nodes.registerType("edgelabel-classify", ClassifyNode);
  RED.nodes.registerType("edgelabel-learn", LearnNode);
  RED.nodes.registerType("edgelabel-train", TrainNode);
};
