// A run -> a model file, on request with the state to resume it from; and back.
//
//   | Settings 128 | TrainingState 64 | parameters, slot 0, slot 1, average |
//
// in the order of networkStatePtr in step.ts. The weights in the file proper are those to use: the
// averaged ones, if the run keeps an average, with each word's n-grams added to its row.
import {
  ERR_BAD_ARGUMENT,
  ERR_BAD_STATE,
  ERR_BAD_TRAINING,
  ERR_NOT_FINITE,
  ERR_OUT_OF_MEMORY,
  FORM_F32,
  OK,
} from "../abi";
import { allocate } from "../arena";
import { isFinite32 } from "../network/model";
import { draft, isBuilt } from "./builder";
import { network } from "./network";
import { Settings, settings } from "./settings";
import {
  networkRestored,
  networkSettle,
  networkStateBytes,
  networkStateCount,
  networkStatePtr,
  networkSwapAverage,
} from "./step";
import { beginFile, mergeNgrams, writeModel } from "./write";

/** Writes the model's file, to be found at filePtr(): with `isResumable` the f32 form that resumeTraining can continue. */
export function writeFile(form: u32, isResumable: bool): i32 {
  if (!isBuilt()) return ERR_BAD_STATE;
  const isTrained = networkStateCount() > 0;
  const keepsState = isResumable && isTrained;
  if (keepsState && form != FORM_F32) return ERR_BAD_ARGUMENT;
  beginFile();
  let training: usize = 0;
  if (keepsState) {
    training = saveState();
    if (!training) return ERR_OUT_OF_MEMORY;
  }
  if (!isFinite32(network.parameters, network.parameters + network.parameterBytes)) return ERR_NOT_FINITE;
  const swaps = isTrained && settings.averageDecay > 0 && network.state.averages > 0;
  if (swaps) networkSwapAverage();
  const weights =
    isTrained && settings.addsNgrams != 0 ? mergeNgrams(draft, network.parameterBytes) : network.parameters;
  const status = weights
    ? writeModel(draft, weights, form, training, keepsState ? <u32>stateBytes() : 0)
    : ERR_OUT_OF_MEMORY;
  if (swaps) networkSwapAverage();
  return status;
}

function stateBytes(): usize {
  let bytes: usize = offsetof<Settings>();
  for (let i: u32 = 0; i < networkStateCount(); i++) bytes += networkStateBytes(i);
  return bytes;
}

/** A copy of settings and state in new memory; 0 when memory is refused. */
function saveState(): usize {
  networkSettle();
  const state = allocate(stateBytes());
  if (!state) return 0;
  memory.copy(state, changetype<usize>(settings), offsetof<Settings>());
  let to = state + offsetof<Settings>();
  for (let i: u32 = 0; i < networkStateCount(); i++) {
    memory.copy(to, networkStatePtr(i), networkStateBytes(i));
    to += networkStateBytes(i);
  }
  return state;
}

/** Restores the saved state of a run that has been prepared with the saved settings. Returns a status. */
export function restoreState(state: usize, bytes: u32): i32 {
  if (stateBytes() != <usize>bytes) return ERR_BAD_TRAINING;
  let from = state + offsetof<Settings>();
  for (let i: u32 = 0; i < networkStateCount(); i++) {
    if (i > 0 && !isFinite32(from, from + networkStateBytes(i))) return ERR_BAD_TRAINING;
    memory.copy(networkStatePtr(i), from, networkStateBytes(i));
    from += networkStateBytes(i);
  }
  return networkRestored() ? OK : ERR_BAD_TRAINING;
}
