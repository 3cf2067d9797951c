// What the embedded broker keeps, in memory: retained messages, and the ids of QoS 2 messages whose handshake is not over.
// This is all that Aedes asks of a "persistence" for sessions that end with their connection.
import { Readable } from "node:stream";
import type { Client, PublishPacket } from "aedes";
import { filterMatches } from "../topics.ts";

/** `messageExpiry`: milliseconds since 1970. Aedes sets it. */
type Message = PublishPacket & { messageExpiry?: number };

const RETAINED_MESSAGES = 1000;
const RETAINED_BYTES = 8_388_608;
/** Generous estimates of what a message, and each of its user properties, take besides their bytes. */
const MESSAGE_BYTES = 512;
const PROPERTY_BYTES = 64;
/** [MQTT-3.14.2.1] */
const RECEIVE_MAXIMUM_EXCEEDED = 0x93;

export class Store {
  /** How many messages were not retained for lack of room. */
  dropped = 0;
  private readonly retained = new Map<string, Message>();
  private retainedBytes = 0;
  private readonly unreleased = new WeakMap<Client, Set<number>>();
  private readonly mostUnreleased: number;

  constructor(mostUnreleased: number) {
    this.mostUnreleased = mostUnreleased;
  }

  /** Counts a message as dropped if there is no room for it. */
  hasRoom(message: Message): boolean {
    if (message.payload.length === 0) return true;
    if (!this.fits(message)) for (const each of this.retained.values()) if (isOver(each)) this.remove(each.topic);
    const hasRoom = this.fits(message);
    if (!hasRoom) this.dropped++;
    return hasRoom;
  }

  private fits(message: Message): boolean {
    const old = this.retained.get(message.topic);
    return (
      this.retainedBytes - (old ? sizeOf(old) : 0) + sizeOf(message) <= RETAINED_BYTES &&
      (old !== undefined || this.retained.size < RETAINED_MESSAGES)
    );
  }

  private remove(topic: string): void {
    const old = this.retained.get(topic);
    if (!old) return;
    this.retained.delete(topic);
    this.retainedBytes -= sizeOf(old);
  }

  // What follows is called by Aedes.

  async setup(): Promise<void> {}

  async storeRetained(message: Message): Promise<void> {
    this.remove(message.topic);
    if (message.payload.length === 0) return;
    this.retained.set(message.topic, message);
    this.retainedBytes += sizeOf(message);
  }

  createRetainedStreamCombi(filters: string[]): Readable {
    return Readable.from(this.matching(filters));
  }

  private *matching(filters: string[]): Generator<Message> {
    for (const filter of filters)
      for (const message of this.retained.values()) if (filterMatches(filter, message.topic)) yield message;
  }

  /**
   * Whether a QoS 2 message has come before. If not, its id is noted at once, and not when Aedes stores the message:
   * packets that arrive together are handled side by side. Of the message no more than that is needed.
   */
  async incomingGetPacket(client: Client, { cmd, messageId }: { cmd: string; messageId: number }): Promise<object> {
    let ids = this.unreleased.get(client);
    if (!ids) this.unreleased.set(client, (ids = new Set()));
    if (ids.has(messageId)) return {};
    if (cmd === "publish") {
      // Never goes on: an error would close the connection before the reason is sent.
      if (ids.size >= this.mostUnreleased)
        await new Promise(() => client.disconnect({ reasonCode: RECEIVE_MAXIMUM_EXCEEDED }));
      ids.add(messageId);
    }
    throw new Error("no such message");
  }

  async incomingStorePacket(): Promise<void> {}

  /** Never fails: Aedes 2.0.0-beta.1 would end the process over a PUBREL that comes twice. */
  async incomingDelPacket(client: Client, { messageId }: { messageId: number }): Promise<void> {
    this.unreleased.get(client)?.delete(messageId);
  }

  // Sessions of clients that are away, and their wills: there are none.

  async addSubscriptions(): Promise<void> {}
  async removeSubscriptions(): Promise<void> {}
  async cleanSubscriptions(): Promise<void> {}
  async outgoingEnqueueCombi(): Promise<void> {}
  async outgoingUpdate(): Promise<void> {}
  async outgoingClearMessageId(): Promise<void> {}
  async putWill(): Promise<void> {}
  async delWill(): Promise<void> {}

  async subscriptionsByClient(): Promise<never[]> {
    return [];
  }

  async subscriptionsByTopic(): Promise<never[]> {
    return [];
  }

  outgoingStream(): Readable {
    return Readable.from([]);
  }

  streamWill(): Readable {
    return Readable.from([]);
  }
}

function isOver({ messageExpiry = Infinity }: Message): boolean {
  return messageExpiry <= Date.now();
}

function sizeOf({ topic, payload, properties = {} }: Message): number {
  const { responseTopic = "", contentType = "", correlationData = "", userProperties = {} } = properties;
  let bytes =
    MESSAGE_BYTES + topic.length + payload.length + responseTopic.length + contentType.length + correlationData.length;
  for (const [name, values] of Object.entries(userProperties))
    for (const value of [values].flat()) bytes += PROPERTY_BYTES + name.length + value.length;
  return bytes;
}
