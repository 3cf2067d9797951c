// An MQTT message: as it comes in, and as it goes out.

export interface Incoming {
  topic: string;
  payload: Buffer;
  qos: 0 | 1 | 2;
  isRetained: boolean;
  responseTopic?: string | undefined;
  correlationData?: Buffer | undefined;
  contentType?: string | undefined;
  /** By performance.now(). Its sender wants no answer after that. */
  expiresAt: number;
  /** A route, an answer or an announcement of edgelabel made the message: see LOOP_MARK in connection.ts. */
  isMarked: boolean;
  /** Size of the whole packet, properties included. */
  bytes: number;
  acknowledge: () => void;
}

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

/** The message can never be sent on this connection. */
export class TooLarge extends Error {
  constructor() {
    super("the message is larger than the broker takes");
  }
}

/** Upper bound of what a packet has besides the bytes that `sizeOf` counts: fixed header, message id, lengths. */
export const HEADER_BYTES = 16;

/** Bytes of topic, properties and payload. */
export function sizeOf({ topic, payload, properties = {} }: Outgoing): number {
  const { contentType, correlationData, userProperties = {} } = properties;
  let bytes = Buffer.byteLength(topic) + Buffer.byteLength(payload);
  if (contentType !== undefined) bytes += 3 + Buffer.byteLength(contentType);
  if (correlationData) bytes += 3 + correlationData.length;
  for (const [name, value] of Object.entries(userProperties))
    bytes += 5 + Buffer.byteLength(name) + Buffer.byteLength(value);
  return bytes;
}
