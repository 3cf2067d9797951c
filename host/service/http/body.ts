// Bodies of HTTP requests, and lines of streams, which are bodies of their own. Incomplete ones may only take so much
// memory together: beyond that the oldest one is refused, so that slow clients, however many, neither fill the memory nor
// keep anyone out.
import type { IncomingMessage } from "node:http";
import { RequestError } from "../answer/messages.ts";

const FIRST_BYTES = 4_096;
/** Limit for all bodies together, in bodies of the largest size. */
const LARGEST_AT_ONCE = 4;

/** A body that is coming in. */
export interface Body {
  /** Keeps a copy: chunks may be single bytes, each of which would keep the buffer that it was read into. */
  append(chunk: Uint8Array): void;
  /** All that has come. */
  bytes(): Buffer;
  /** Nothing more is wanted of it. */
  end(): void;
}

interface Receiving {
  blocks: Buffer[];
  length: number;
  /** Bytes of all blocks. */
  room: number;
  refuse(error: RequestError): void;
}

export class Bodies {
  readonly limit: number;
  /** Oldest first. */
  private readonly receiving = new Set<Receiving>();
  private bytes = 0;

  /** `limit`: size of the largest body, in bytes. */
  constructor(limit: number) {
    this.limit = limit;
  }

  /** Rejects with a RequestError `too_large`, or `busy` if it has to make room for others. */
  async receive(request: IncomingMessage): Promise<Buffer> {
    if (Number(request.headers["content-length"] ?? 0) > this.limit) throw this.tooLarge();
    let body: Body | undefined;
    try {
      // Not `for await`: leaving such a loop early destroys the socket before the answer is written.
      await new Promise<void>((resolve, reject) => {
        body = this.begin((error) => {
          request.pause();
          reject(error);
        });
        request.on("data", (chunk: Buffer) => body!.append(chunk));
        request.on("end", resolve);
        request.on("error", reject);
      });
      return body!.bytes();
    } finally {
      body!.end();
    }
  }

  /** `refuse` is called at most once, with such an error; from then on, nothing more is kept. */
  begin(refuse: (error: RequestError) => void): Body {
    const body: Receiving = { blocks: [], length: 0, room: 0, refuse };
    this.receiving.add(body);
    return {
      append: (chunk) => {
        if (!this.receiving.has(body)) return;
        if (body.length + chunk.length > this.limit) this.refuse(body, this.tooLarge());
        else this.append(body, chunk);
      },
      bytes: () => Buffer.concat(body.blocks, body.length),
      end: () => this.forget(body),
    };
  }

  private tooLarge(): RequestError {
    return new RequestError("too_large", `a request may have at most ${this.limit} bytes`);
  }

  private append(body: Receiving, chunk: Uint8Array): void {
    const free = body.room - body.length;
    if (free > 0) {
      const last = body.blocks.at(-1)!;
      last.set(chunk.subarray(0, free), last.length - free);
    }
    body.length += chunk.length;
    if (chunk.length <= free) return;
    const rest = chunk.subarray(Math.max(0, free));
    // Each block is as large as all before it.
    const block = Buffer.allocUnsafeSlow(
      Math.max(rest.length, Math.min(Math.max(body.room, FIRST_BYTES), this.limit - body.room)),
    );
    block.set(rest);
    body.blocks.push(block);
    body.room += block.length;
    this.bytes += block.length;
    for (const oldest of this.receiving) {
      if (this.bytes <= LARGEST_AT_ONCE * this.limit) break;
      this.refuse(oldest, new RequestError("busy", "too many large requests are coming in; try again later", 1));
    }
  }

  private refuse(body: Receiving, error: RequestError): void {
    this.forget(body);
    body.refuse(error);
  }

  private forget(body: Receiving): void {
    if (this.receiving.delete(body)) this.bytes -= body.room;
    body.blocks = [];
  }
}
