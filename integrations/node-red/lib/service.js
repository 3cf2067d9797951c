// A model that `edgelabel serve` has on a broker, asked over the connection of Node-RED's own MQTT broker node.
const { randomBytes } = require("node:crypto");

/** Texts that are asked about at once. A flow that splits a file would else fill the service's queue and be told `busy`. */
const AT_ONCE = 16;

class ServiceModel {
  #node;
  #broker;
  #say;
  #base;
  #request;
  #reply;
  #model;
  #timeout;
  #sent = 0;
  #waiting = new Map();
  /** Those that wait until fewer than AT_ONCE are asked. */
  #turns = [];
  #asking = 0;
  #isClosed = false;

  constructor(node, broker, { root, node: service, serviceModel, timeout }, say) {
    this.#node = node;
    this.#broker = broker;
    this.#say = say;
    this.#model = serviceModel || undefined;
    this.#timeout = Number(timeout) || 10;
    this.#base = `${root || "edgelabel"}/${service}`;
    // Brokers that know their users let each ask in its own name only.
    const user = broker.username && !/[/+#]/.test(broker.username) ? broker.username : undefined;
    this.#request = `${this.#base}/${user ? `from/${user}/classify` : "classify"}${serviceModel ? `/${serviceModel}` : ""}`;
    this.#reply = `${this.#base}/reply/${user ? `${user}/` : ""}${randomBytes(8).toString("hex")}`;
    broker.register(node);
    broker.subscribe(this.#reply, { qos: 1 }, (topic, payload) => this.#onAnswer(payload), node.id);
  }

  async classify(text, options) {
    const id = String(this.#sent++);
    const request = { text: text.toString(), id, replyTo: this.#reply, ...options };
    const answer = await this.#inTurn(() => this.#ask(id, this.#request, request));
    if (answer.error) throw new Error(this.#say("error.answer", answer.error));
    return answer;
  }

  async #inTurn(ask) {
    if (this.#asking < AT_ONCE) this.#asking++;
    else await new Promise((resolve) => this.#turns.push(resolve));
    try {
      return await ask();
    } finally {
      const next = this.#turns.shift();
      if (next) next();
      else this.#asking--;
    }
  }

  #onAnswer(payload) {
    const answer = parsed(payload);
    this.#waiting.get(answer?.id)?.settle(undefined, answer);
  }

  /** What the service publishes as the result of its command `learn`. */
  async learn(corrections) {
    const id = `nodered-${randomBytes(8).toString("hex")}`;
    const topic = `${this.#base}/cmd/learn/${id}`;
    const broker = this.#broker;
    const onStatus = (_topic, payload) => {
      const { status, ...result } = parsed(payload) ?? {};
      const waiting = this.#waiting.get(id);
      if (status === "executing") waiting?.goOn();
      else if (status === "successful") waiting?.settle(undefined, result);
      else if (status === "failed") waiting?.settle(new Error(result.reason));
    };
    broker.subscribe(topic, { qos: 1 }, onStatus, this.#node.id);
    try {
      return await this.#ask(id, topic, { status: "init", model: this.#model, corrections });
    } finally {
      broker.unsubscribe(topic, this.#node.id, true);
      // Else the broker would keep the last status.
      broker.publish({ topic, payload: "", qos: 1, retain: true }, () => {});
    }
  }

  train() {
    throw new Error(this.#say("error.train-service"));
  }

  /** Publishes, and resolves to what comes for `id`. */
  #ask(id, topic, message) {
    return new Promise((resolve, reject) => {
      if (this.#isClosed) throw new Error(this.#say("error.redeployed"));
      // Its node publishes nothing then, and says nothing.
      if (!this.#broker.connected) throw new Error(this.#say("error.not-connected", { url: this.#broker.brokerurl }));
      const late = () =>
        settle(new Error(this.#say("error.no-answer", { topic, seconds: this.#timeout, base: this.#base })));
      const timer = setTimeout(late, 1000 * this.#timeout);
      const settle = (error, answer) => {
        clearTimeout(timer);
        this.#waiting.delete(id);
        if (error) reject(error);
        else resolve(answer);
      };
      this.#waiting.set(id, { settle, goOn: () => clearTimeout(timer) });
      this.#broker.publish({ topic, payload: JSON.stringify(message), qos: 1 }, (error) => error && settle(error));
    });
  }

  close(done) {
    this.#isClosed = true;
    for (const { settle } of [...this.#waiting.values()]) settle(new Error(this.#say("error.redeployed")));
    this.#broker.unsubscribe(this.#reply, this.#node.id, true);
    this.#broker.deregister(this.#node, done, true);
  }
}

/** A JSON object; undefined for anything else. */
function parsed(payload) {
  try {
    const value = JSON.parse(payload);
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

module.exports = { ServiceModel };
