// Bodies of HTTP requests. Incomplete ones may only take so much memory together: beyond that the
// oldest one is refused, so that slow clients, however many, neither fill the memory nor keep
// anyone out.
import type { IncomingMessage } from "node:http";
import { RequestError } from "../answer/messages.ts";

const FIRST_BYTES = 4_096;
/** Limit for all bodies together, in bodies of the largest size. */
const LARGEST_AT_ONCE = 4;

interface Receiving {
  /** Copies: chunks may be single bytes, each of which would keep the buffer that it was read into. */
  blocks: Buffer[];
  /** Bytes of all blocks. */
  room: number;
  refuse(error: Error): void;
}

export class Bodies {
  private readonly limit: number;
  /** Oldest first. */
  private readonly receiving = new Set<Receiving>();
  private bytes = 0;

  /** `limit`: size of the largest body, in bytes. */
  constructor(limit: number) {
    this.limit = limit;
  }

  /** Rejects with a RequestError `too_large`, or `busy` if it has to make room for others. */
  async receive(request: IncomingMessage): Promise<Buffer> {
    const tooLarge = () => new RequestError("too_large", `the body may have at most ${this.limit} bytes`);
    if (Number(request.headers["content-length"] ?? 0) > this.limit) throw tooLarge();
    let length = 0;
    const body: Receiving = { blocks: [], room: 0, refuse() {} };
    this.receiving.add(body);
    try {
      // Not `for await`: leaving such a loop early destroys the socket before the answer is written.
      await new Promise<void>((resolve, reject) => {
        body.refuse = (error) => {
          request.pause();
          reject(error);
        };
        request.on("data", (chunk: Buffer) => {
          if (!this.receiving.has(body)) return;
          if (length + chunk.length > this.limit) body.refuse(tooLarge());
          else {
            this.append(body, length, chunk);
            length += chunk.length;
          }
        });
        request.on("end", resolve);
        request.on("error", reject);
      });
      return Buffer.concat(body.blocks, length);
    } finally {
      this.forget(body);
    }
  }

  private append(body: Receiving, length: number, chunk: Buffer): void {
    const free = body.room - length;
    if (free > 0) chunk.copy(body.blocks.at(-1)!, body.blocks.at(-1)!.length - free);
    if (chunk.length <= free) return;
    const rest = chunk.subarray(free);
    // Each block is as large as all before it.
    const block = Buffer.allocUnsafeSlow(
      Math.max(rest.length, Math.min(Math.max(body.room, FIRST_BYTES), this.limit - body.room)),
    );
    rest.copy(block);
    body.blocks.push(block);
    body.room += block.length;
    this.bytes += block.length;
    for (const oldest of this.receiving) {
      if (this.bytes <= LARGEST_AT_ONCE * this.limit) break;
      this.forget(oldest);
      oldest.refuse(new RequestError("busy", "too many large requests are coming in; try again later", 1));
    }
  }

  private forget(body: Receiving): void {
    if (this.receiving.delete(body)) this.bytes -= body.room;
    body.blocks = [];
  }
}
