// Writes PUBLISH, PUBACK and PUBREC, which are nearly all that a service sends, to one connection.
// MQTT.js writes each packet by itself, in a dozen chunks. Here, all packets of one turn of the
// event loop are sent in one write, in the order of the calls. With MQTT.js' own publish, and 64
// requests in flight at QoS 0, the service has 0.65 of the throughput of an echo (bench/README.md).
import type { Writable } from "node:stream";
import { propertiesLength, TooLarge } from "./message.ts";
import type { Outgoing } from "./message.ts";

/** Called when a message is acknowledged, or at QoS 0 when the socket takes more; with an error when neither will happen. */
export type Done = (error?: Error) => void;

/** The message id of the one SUBSCRIBE, which MQTT.js sends; all others are given out here. */
export const SUBSCRIPTION_ID = 1;
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
  /** By message id. */
  private readonly unacknowledged = new Map<number, Done>();
  private readonly freeIds: number[] = [];
  private lastId = SUBSCRIPTION_ID;
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

  /** Topic and properties must have at most 65,535 bytes each. The caller keeps to the broker's receive maximum. */
  publish(message: Outgoing, done = NOBODY): void {
    const messageId = message.qos === 0 ? 0 : (this.freeIds.pop() ?? ++this.lastId);
    if (!this.putPublish(message, messageId)) {
      if (message.qos === 1) this.freeIds.push(messageId);
      this.onTooLarge();
      // Not synchronously: a caller that publishes again on an error would recurse for ever.
      queueMicrotask(() => done(new TooLarge()));
      return;
    }
    this.schedule();
    if (message.qos === 1) this.unacknowledged.set(messageId, done);
    else if (this.stream.writableNeedDrain) this.hold(done);
    else done();
  }

  /** Sends the PUBACK of a request, or the PUBREC of one with QoS 2, behind all that was published before. */
  acknowledge(messageId: number, isExactlyOnce = false): void {
    if (this.isClosed) return;
    this.reserve(4);
    this.room[this.end++] = isExactlyOnce ? PUBREC : PUBACK;
    this.room[this.end++] = 2;
    this.putNumber(messageId);
    this.schedule();
  }

  /** The broker's PUBACK. */
  onAcknowledged(messageId: number, reasonCode = 0): void {
    const done = this.unacknowledged.get(messageId);
    if (!done) return;
    this.unacknowledged.delete(messageId);
    this.freeIds.push(messageId);
    done(
      reasonCode < FIRST_ERROR
        ? undefined
        : new Error(`the broker refuses the message, reason 0x${reasonCode.toString(16)}`),
    );
  }

  private flush(): void {
    const { start, end } = this;
    if (start === end) return;
    this.start = end;
    this.stream.write(this.room.subarray(start, end));
  }

  /** The connection is lost: nothing more is written, and no callback called. */
  close(): void {
    this.isClosed = true;
  }

  private hold(done: Done): void {
    this.held.push(done);
    if (this.held.length > 1) return;
    this.stream.once("drain", () => {
      for (const done of this.held.splice(0)) done();
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

function lengthBytes(value: number): number {
  return value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x200000 ? 3 : 4;
}
