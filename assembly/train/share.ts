// Data-parallel training: several instances hold the same network. Each computes the gradient of
// its share of a batch; then all add up the shares in the same order, so that they take the same
// step, bit for bit. The host copies the shares between instances; called by
// run.ts. Of the embedding, a share only contains the rows that have a gradient.
//
//   | Share 32 | gradients behind the embedding | touched rows u32[rows], padded | their gradients f32[rows][E] |
import { OK } from "../abi";
import { allocate } from "../arena";
import { padded } from "../network/model";
import { zeroGradients } from "./backward";
import { network, ROW_KNOWN, ROW_TOUCHED } from "./network";
import { addRow, loadU32, storeU32 } from "./rows";

/** The beginning of a share; the gradients follow. */
@unmanaged
export class Share {
  status: i32; // OK, or why there is no gradient
  rows: u32; // embedding rows with a gradient
  loss: f32; // this share's part of the batch's mean loss
  correct: u32; // samples that were right
  reserved0: u32;
  reserved1: u32;
  reserved2: u32;
  reserved3: u32;
}

let shares: usize = 0; // one after the other, `capacity` bytes each
let capacity: usize = 0;

/** Makes room for the shares of `count` instances; false when memory is refused. */
export function sharesBuild(count: u32): bool {
  const rows = min(<u64>network.batchCapacity * network.timeCapacity * network.rowsPerToken, <u64>network.rows);
  const bytes = offsetof<Share>() + denseBytes() + padded(rows << 2) + padded((rows * network.width) << 2);
  if (bytes * count > 0x7fff0000) return false;
  capacity = <usize>bytes;
  shares = allocate(<usize>(bytes * count));
  return shares != 0;
}

/** Largest size of a share, in bytes. */
export function shareCapacity(): usize {
  return capacity;
}

/** Where share `index` lies: what this instance wrote, or what the host copies in. */
export function sharePtr(index: u32): usize {
  return shares + <usize>index * capacity;
}

/** Bytes of share `index`. */
export function shareBytes(index: u32): usize {
  const rows = changetype<Share>(sharePtr(index)).rows;
  return (
    offsetof<Share>() + denseBytes() + <usize>padded((<u64>rows) << 2) + <usize>padded((<u64>rows * network.width) << 2)
  );
}

function denseBytes(): usize {
  return network.parameterBytes - network.embeddingBytes;
}

/** Writes the gradients as share `index`; if `status` is not OK, only the status. */
export function shareWrite(index: u32, status: i32, loss: f32, correct: u32): void {
  let to = sharePtr(index);
  const share = changetype<Share>(to);
  share.status = status;
  share.rows = status == OK ? network.touchedCount : 0;
  share.loss = loss;
  share.correct = correct;
  if (status != OK) return;
  to += offsetof<Share>();
  memory.copy(to, network.gradients + network.embeddingBytes, denseBytes());
  to += denseBytes();
  memory.copy(to, network.touched, (<usize>share.rows) << 2);
  to += <usize>padded((<u64>share.rows) << 2);
  const bytes = (<usize>network.width) << 2;
  for (let i: u32 = 0; i < share.rows; i++)
    memory.copy(to + <usize>i * bytes, network.gradients + <usize>loadU32(network.touched, i) * bytes, bytes);
}

/** Sets the gradients to the sum of the first `count` shares, added in order. Returns the first status that is not OK. */
export function sharesAdd(count: u32): i32 {
  zeroGradients();
  for (let index: u32 = 0; index < count; index++) {
    const status = changetype<Share>(sharePtr(index)).status;
    if (status != OK) return status;
    addShare(sharePtr(index));
  }
  return OK;
}

function addShare(address: usize): void {
  const rows = changetype<Share>(address).rows;
  const dense = address + offsetof<Share>();
  addRow(network.gradients + network.embeddingBytes, dense, <u32>(denseBytes() >> 2));
  const ids = dense + denseBytes();
  const bytes = (<usize>network.width) << 2;
  let from = ids + <usize>padded((<u64>rows) << 2);
  for (let i: u32 = 0; i < rows; i++, from += bytes) {
    const row = loadU32(ids, i);
    const state = load<u8>(network.rowStates + row);
    if (!(state & ROW_TOUCHED)) {
      store<u8>(network.rowStates + row, state | ROW_TOUCHED | ROW_KNOWN);
      storeU32(network.touched, network.touchedCount, row);
      network.touchedCount++;
    }
    addRow(network.gradients + <usize>row * bytes, from, network.width);
  }
}
