// Bounds the QoS 1 messages that the embedded broker keeps for a subscriber that is away or
// does not acknowledge; Aedes alone would keep all of them for ever. As in Mosquitto, a
// message for a full queue is dropped. A client that is connected and has that much
// unacknowledged is disconnected by Aedes, and gets its queue when it connects again.
import type { Aedes } from "aedes";

export interface OfflineLimits {
  /** Messages for one client that is away. */
  messages: number;
  /** Bytes for one client that is away, topics included. */
  bytes: number;
  /** Bytes for all clients together, and for one client that is connected. */
  allBytes: number;
}

interface Kept {
  topic?: string;
  /** Absent in the second half of a QoS 2 exchange, which is kept too. */
  payload?: Buffer | string;
}

/** The part of Aedes' persistence that its types leave out. */
interface Persistence {
  outgoingEnqueue(subscription: { clientId: string }, packet: Kept): Promise<void>;
  outgoingEnqueueCombi(subscriptions: { clientId: string }[], packet: Kept): Promise<void>;
  outgoingClearMessageId(client: { id: string }, packet: object): Promise<Kept | undefined>;
}

export class OfflineQueues {
  /** Messages that found no room. */
  dropped = 0;
  private readonly limits: OfflineLimits;
  private readonly isHere: (clientId: string) => boolean;
  private readonly byClient = new Map<string, { messages: number; bytes: number }>();
  private bytes = 0;

  constructor(aedes: Aedes, limits: OfflineLimits) {
    this.limits = limits;
    const { persistence, clients } = aedes as unknown as { persistence: Persistence; clients: Record<string, unknown> };
    this.isHere = (clientId) => clients[clientId] !== undefined;
    const enqueue = persistence.outgoingEnqueueCombi.bind(persistence);
    const clear = persistence.outgoingClearMessageId.bind(persistence);
    persistence.outgoingEnqueueCombi = (subscriptions, packet) => {
      const kept = subscriptions.filter(({ clientId }) => this.hasRoom(clientId));
      this.dropped += subscriptions.length - kept.length;
      for (const { clientId } of kept) this.count(clientId, packet, 1);
      return enqueue(kept, packet);
    };
    persistence.outgoingEnqueue = (subscription, packet) => persistence.outgoingEnqueueCombi([subscription], packet);
    persistence.outgoingClearMessageId = async (client, packet) => {
      const cleared = await clear(client, packet);
      if (cleared) this.count(client.id, cleared, -1);
      return cleared;
    };
  }

  private hasRoom(clientId: string): boolean {
    const { messages, bytes } = this.byClient.get(clientId) ?? { messages: 0, bytes: 0 };
    if (this.isHere(clientId)) return bytes < this.limits.allBytes;
    return messages < this.limits.messages && bytes < this.limits.bytes && this.bytes < this.limits.allBytes;
  }

  private count(clientId: string, { topic = "", payload = "" }: Kept, sign: 1 | -1): void {
    const size = sign * (topic.length + payload.length);
    const queue = this.byClient.get(clientId) ?? { messages: 0, bytes: 0 };
    this.byClient.set(clientId, queue);
    queue.messages += sign;
    queue.bytes += size;
    this.bytes += size;
    if (queue.messages > 0) return;
    this.bytes -= queue.bytes;
    this.byClient.delete(clientId);
  }
}
