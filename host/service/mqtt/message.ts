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

/** Bytes of topic, properties and payload. */
export function sizeOf({ topic, payload, properties }: Outgoing): number {
  return Buffer.byteLength(topic) + Buffer.byteLength(payload) + propertiesLength(properties);
}

/** Bytes of the properties in an MQTT 5 packet. */
export function propertiesLength(properties: Outgoing["properties"]): number {
  if (!properties) return 0;
  const { contentType, correlationData, userProperties } = properties;
  let bytes =
    (contentType === undefined ? 0 : 3 + Buffer.byteLength(contentType)) +
    (correlationData ? 3 + correlationData.length : 0);
  for (const name in userProperties) bytes += 5 + Buffer.byteLength(name) + Buffer.byteLength(userProperties[name]!);
  return bytes;
}
