// A socket as the embedded broker sees it: it closes the connection when an MQTT packet is
// too large or takes too long to arrive. Aedes itself would collect in memory as many bytes
// as the packet's header announces.
import type { Socket } from "node:net";
import { Duplex } from "node:stream";

export interface PacketLimits {
  /** Largest packet, without its fixed header. */
  bytes: number;
  /** The same for the first packet, CONNECT, of a client that is not known yet. */
  firstBytes: number;
  /** Time in which a packet that has begun must be complete. */
  ms: number;
}

/** The length of a packet takes at most four bytes. [MQTT-2.2.3] */
const LENGTH_BYTES = 4;

export class LimitedSocket extends Duplex {
  private readonly socket: Socket;
  private readonly limits: PacketLimits;
  private isFirst = true;
  /** Bytes of the packet that are still to come; 0 while a header is being read. */
  private left = 0;
  private announced = 0;
  private lengthBytes = -1;
  private timer: NodeJS.Timeout | undefined;

  constructor(socket: Socket, limits: PacketLimits) {
    super({ allowHalfOpen: false });
    this.socket = socket;
    this.limits = limits;
    socket.on("data", (chunk: Buffer) => this.onData(chunk));
    socket.on("end", () => this.push(null));
    socket.on("error", (error) => this.destroy(error));
    socket.on("close", () => this.destroy());
  }

  private onData(chunk: Buffer): void {
    const fault = this.measure(chunk);
    if (fault !== undefined) this.destroy(new Error(fault));
    else if (!this.push(chunk)) this.socket.pause();
  }

  /** Follows the packets through the bytes of a chunk; returns what is wrong with one, if anything. */
  private measure(chunk: Buffer): string | undefined {
    for (let i = 0; i < chunk.length;) {
      if (this.left > 0) {
        const taken = Math.min(this.left, chunk.length - i);
        this.left -= taken;
        i += taken;
        if (this.left === 0) this.completed();
        continue;
      }
      const byte = chunk[i++]!;
      if (this.lengthBytes < 0) {
        this.lengthBytes = 0;
        this.timer ??= setTimeout(() => this.destroy(new Error("a packet took too long to arrive")), this.limits.ms).unref();
        continue;
      }
      this.announced += (byte & 0x7f) * 128 ** this.lengthBytes++;
      if (byte & 0x80) {
        if (this.lengthBytes === LENGTH_BYTES) return "malformed packet length";
        continue;
      }
      if (this.announced > (this.isFirst ? this.limits.firstBytes : this.limits.bytes)) return `a packet of ${this.announced} bytes is too large`;
      this.left = this.announced;
      if (this.left === 0) this.completed();
    }
    return undefined;
  }

  private completed(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.isFirst = false;
    this.announced = 0;
    this.lengthBytes = -1;
  }

  override _read(): void {
    this.socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    if (this.socket.write(chunk)) done();
    else this.socket.once("drain", done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: () => void): void {
    this._write(Buffer.concat(chunks.map(({ chunk }) => chunk)), "binary", done);
  }

  override _final(done: () => void): void {
    this.socket.end(done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    clearTimeout(this.timer);
    this.socket.destroy();
    done(error);
  }
}
