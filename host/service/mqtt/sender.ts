// Writes PUBLISH, PUBACK and PUBREC, which are nearly all that a service sends, to one connection.
// MQTT.js writes each packet for itself, as a dozen chunks; here, all packets of one turn of
// the event loop leave in one write, in the order of the calls.
import type { Writable } from "node:stream";

export interface Outgoing {
  topic: string;
  payload: string;
  qos: 0 | 1;
  retain?: boolean;
  /** MQTT 3.1.1 has none, and leaves them out. */
  properties?: {
    contentType?: string;
    correlationData?: Buffer | undefined;
    userProperties?: Record<string, string> | undefined;
  };
}

/** Called when a message is acknowledged, or at QoS 0 when the socket takes more; with an error when neither will happen. */
export type Done = (error?: Error) => void;

/** The message can never be sent on this connection. */
export class TooLarge extends Error {
  constructor() {
    super("the message is larger than the broker takes");
  }
}

/** The message id of the one SUBSCRIBE, which MQTT.js sends; all others are given out here. */
export const SUBSCRIPTION_ID = 1;
/** Number of message ids that are given out here. */
const IDS = 65_535 - SUBSCRIPTION_ID;
const NOBODY: Done = () => {};
/** Reason codes from here on are errors. [MQTT-3.4.2.1] */
const FIRST_ERROR = 0x80;
// [MQTT-2.1.2] packet types, [MQTT-2.2.2.2] properties.
const PUBLISH = 0x30;
const PUBACK = 0x40;
const PUBREC = 0x50;
const RETAIN = 1;
const CONTENT_TYPE = 0x03;
const CORRELATION_DATA = 0x09;
const USER_PROPERTY = 0x26;
const FIXED_HEADER_BYTES = 5;
const ROOM = 16_384;

export class Sender {
  /** Largest packet that the broker takes: it would end the connection over a larger one. */
  maximumPacketSize = Infinity;
  /** Largest payload that is sent, for brokers that do not say their limit. */
  maximumPayload = Infinity;
  /** How many QoS 1 messages the broker takes unacknowledged. [MQTT-3.3.4-9] */
  receiveMaximum = IDS;
  /** Called when a message is too large to be sent. */
  onTooLarge = () => {};
  private readonly stream: Writable;
  private readonly isMqtt5: boolean;
  // No byte is written twice, since the stream may hold on to what it was given: a full buffer is replaced by a new one.
  private room = Buffer.allocUnsafeSlow(ROOM);
  private start = 0;
  private end = 0;
  private isScheduled = false;
  private isClosed = false;
  /** By message id; undefined where the id is free. An array, not a map, for the reason in queue.ts. */
  private readonly unacknowledged: (Done | undefined)[] = [];
  private readonly freeIds: number[] = [];
  private lastId = SUBSCRIPTION_ID;
  /** QoS 1 messages beyond the broker's receive maximum, and the PUBACKs behind them: a request's PUBACK must not overtake its answer. */
  private waiting: ({ message: Outgoing; done: Done } | { messageId: number; isExactlyOnce: boolean })[] = [];
  /** Callbacks of QoS 0 messages that were written while the socket was full. */
  private readonly held: Done[] = [];

  constructor(stream: Writable, protocol: 4 | 5) {
    this.stream = stream;
    this.isMqtt5 = protocol === 5;
  }

  /** Bytes that the operating system has not taken yet. */
  get waitingBytes(): number {
    return this.end - this.start + this.stream.writableLength;
  }

  /** Sends the message, or keeps it until the broker takes it. Topic and properties must have at most 65,535 bytes each. */
  publish(message: Outgoing, done = NOBODY): void {
    if (message.qos === 1 && this.mustWait) this.waiting.push({ message, done });
    else this.publishNow(message, done);
  }

  /** Sends the PUBACK of a request, or the PUBREC of one with QoS 2, behind all that was published before. */
  acknowledge(messageId: number, isExactlyOnce = false): void {
    if (this.isClosed) return;
    if (this.waiting.length > 0) this.waiting.push({ messageId, isExactlyOnce });
    else this.acknowledgeNow(messageId, isExactlyOnce);
  }

  /** The broker's PUBACK. */
  onAcknowledged(messageId: number, reasonCode = 0): void {
    const done = this.unacknowledged[messageId];
    if (!done) return;
    this.unacknowledged[messageId] = undefined;
    this.freeIds.push(messageId);
    this.sayWaiting();
    done(
      reasonCode < FIRST_ERROR
        ? undefined
        : new Error(`the broker refuses the message, reason 0x${reasonCode.toString(16)}`),
    );
  }

  /** Sends now what would go at the end of this turn of the event loop. */
  flush(): void {
    const { start, end } = this;
    if (start === end) return;
    this.start = end;
    this.stream.write(this.room.subarray(start, end));
  }

  /** The connection is gone. */
  close(): void {
    this.isClosed = true;
    const gone = new Error("the connection is closed");
    const unsaid = this.waiting.splice(0).flatMap((each) => ("done" in each ? [each.done] : []));
    for (const done of [...this.unacknowledged.splice(0), ...unsaid, ...this.held.splice(0)]) done?.(gone);
  }

  private get mustWait(): boolean {
    return this.waiting.length > 0 || !this.hasRoom;
  }

  private get hasRoom(): boolean {
    return this.lastId - SUBSCRIPTION_ID - this.freeIds.length < Math.min(this.receiveMaximum, IDS);
  }

  private publishNow(message: Outgoing, done: Done): void {
    const messageId = message.qos === 0 ? 0 : (this.freeIds.pop() ?? ++this.lastId);
    if (!this.putPublish(message, messageId)) {
      if (message.qos === 1) this.freeIds.push(messageId);
      this.onTooLarge();
      // Not synchronously: a caller that publishes again on an error would recurse for ever.
      queueMicrotask(() => done(new TooLarge()));
      return;
    }
    this.schedule();
    if (message.qos === 1) this.unacknowledged[messageId] = done;
    else if (this.stream.writableNeedDrain) this.hold(done);
    else done();
  }

  private acknowledgeNow(messageId: number, isExactlyOnce: boolean): void {
    this.reserve(4);
    this.room[this.end++] = isExactlyOnce ? PUBREC : PUBACK;
    this.room[this.end++] = 2;
    this.putNumber(messageId);
    this.schedule();
  }

  /** Sends what waits, in order, up to a message that must go on waiting. */
  private sayWaiting(): void {
    let said = 0;
    for (const each of this.waiting) {
      if ("messageId" in each) this.acknowledgeNow(each.messageId, each.isExactlyOnce);
      else if (this.hasRoom) this.publishNow(each.message, each.done);
      else break;
      said++;
    }
    if (said > 0) this.waiting = this.waiting.slice(said);
  }

  private hold(done: Done): void {
    this.held.push(done);
    if (this.held.length > 1) return;
    this.stream.once("drain", () => {
      for (const release of this.held.splice(0)) release();
    });
  }

  /** A microtask runs when all packets of a read have been handled. */
  private schedule(): void {
    if (this.isScheduled) return;
    this.isScheduled = true;
    queueMicrotask(() => {
      this.isScheduled = false;
      if (!this.isClosed) this.flush();
    });
  }

  /** Writes a PUBLISH packet to the buffer; false when it is too large for the broker. */
  private putPublish({ topic, payload, qos, retain = false, properties }: Outgoing, messageId: number): boolean {
    const topicBytes = Buffer.byteLength(topic);
    const propertyBytes = this.isMqtt5 ? propertiesLength(properties) : 0;
    const payloadBytes = Buffer.byteLength(payload);
    const length =
      2 + topicBytes + 2 * qos + (this.isMqtt5 ? lengthBytes(propertyBytes) + propertyBytes : 0) + payloadBytes;
    if (payloadBytes > this.maximumPayload || 1 + lengthBytes(length) + length > this.maximumPacketSize) return false;
    this.reserve(FIXED_HEADER_BYTES + length);
    this.room[this.end++] = PUBLISH | (qos << 1) | (retain ? RETAIN : 0);
    this.putLength(length);
    this.putText(topic, topicBytes);
    if (qos === 1) this.putNumber(messageId);
    if (this.isMqtt5) this.putProperties(properties, propertyBytes);
    this.end += this.room.write(payload, this.end);
    return true;
  }

  private reserve(bytes: number): void {
    if (this.end + bytes <= this.room.length) return;
    this.flush();
    this.room = Buffer.allocUnsafeSlow(Math.max(ROOM, bytes));
    this.start = this.end = 0;
  }

  private putNumber(value: number): void {
    this.room[this.end++] = value >> 8;
    this.room[this.end++] = value;
  }

  /** A variable byte integer: seven bits a byte, lowest first. */
  private putLength(value: number): void {
    for (; value > 0x7f; value >>= 7) this.room[this.end++] = value | 0x80;
    this.room[this.end++] = value;
  }

  private putText(text: string, bytes = Buffer.byteLength(text)): void {
    this.putNumber(bytes);
    this.end += this.room.write(text, this.end);
  }

  private putProperties(properties: Outgoing["properties"], bytes: number): void {
    this.putLength(bytes);
    if (!properties) return;
    const { contentType, correlationData, userProperties } = properties;
    if (contentType !== undefined) {
      this.room[this.end++] = CONTENT_TYPE;
      this.putText(contentType);
    }
    if (correlationData) {
      this.room[this.end++] = CORRELATION_DATA;
      this.putNumber(correlationData.length);
      this.end += correlationData.copy(this.room, this.end);
    }
    for (const name in userProperties) {
      this.room[this.end++] = USER_PROPERTY;
      this.putText(name);
      this.putText(userProperties[name]!);
    }
  }
}

/** How many bytes a message takes, without its packet's header. */
export function sizeOf({ topic, payload, properties }: Outgoing): number {
  return Buffer.byteLength(topic) + Buffer.byteLength(payload) + propertiesLength(properties);
}

function propertiesLength(properties: Outgoing["properties"]): number {
  if (!properties) return 0;
  const { contentType, correlationData, userProperties } = properties;
  let bytes =
    (contentType === undefined ? 0 : 3 + Buffer.byteLength(contentType)) +
    (correlationData ? 3 + correlationData.length : 0);
  for (const name in userProperties) bytes += 5 + Buffer.byteLength(name) + Buffer.byteLength(userProperties[name]!);
  return bytes;
}

function lengthBytes(value: number): number {
  return value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x200000 ? 3 : 4;
}
