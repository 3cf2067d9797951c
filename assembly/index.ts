// The engine's public exports, for the host, the browser and the wasmtime CLI. Nothing else.
// Every export that can fail returns OK or an ERR_* code of abi.ts.
import { ABI_VERSION, ERR_OUT_OF_MEMORY, OK } from "./abi";
import { arenaBase } from "./arena";
import { loadEmbedded as loadPacked, loadModel as loadFile } from "./engine";
import { prepareExplaining } from "./explain";
import { prepareLine } from "./render";

export {
  reserveModel,
  textPtr,
  classify,
  scoresPtr,
  bestLabel,
  isRejected,
  tokenCount,
  unknownCount,
  labelCount,
  labelPtr,
  labelBytes,
} from "./engine";
export {
  explainLast,
  explainNext,
  passesLeft,
  pieceCount,
  pieceStart,
  pieceEnd,
  pieceShare,
  explainedLabel,
  explainedScore,
  baseScore,
} from "./explain";
export { linePtr, renderLine, renderCard, bestScore } from "./render";
export { _start } from "./wasi";

/** The contract that this module was built for; the host compares it with its own. */
export function abiVersion(): i32 {
  return ABI_VERSION;
}

/** Loads the file of `length` bytes at reserveModel's address. Memory does not grow after this. */
export function loadModel(length: u32): i32 {
  const status = loadFile(length);
  return status == OK && !(prepareLine() && prepareExplaining()) ? ERR_OUT_OF_MEMORY : status;
}

/** Loads the model that was packed into this module; ERR_NO_MODEL when there is none. */
export function loadEmbedded(): i32 {
  const status = loadPacked();
  return status == OK && !(prepareLine() && prepareExplaining()) ? ERR_OUT_OF_MEMORY : status;
}

/** Where a packed model lies: the address of its data segment. */
export function modelAddress(): usize {
  return arenaBase();
}
