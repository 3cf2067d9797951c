// The label sets of a model that gives several labels a text: a sample's target is then the
// number of its set. The host adds each set once; data sets, the linear part and calibration
// then store one u32 a text, as they do for a single label.
//
//   ends u32[sets] | members u32[...]
import { ERR_BAD_STATE, ERR_LABEL_OUT_OF_RANGE, ERR_OUT_OF_MEMORY, MAX_LABELS, OK } from "../abi";
import { expF32 } from "../network/activation";
import { Growable, appendWord32, createGrowable, word32At } from "./growable";
import { logF32 } from "./random";

let ends: Growable = changetype<Growable>(0);
let members: Growable = changetype<Growable>(0);
let behindLabels: u32 = 0; // the largest label of all sets, plus 1

/** Forgets all sets; false when memory is refused. */
export function startSets(): bool {
  ends = createGrowable();
  members = createGrowable();
  behindLabels = 0;
  return changetype<usize>(ends) && changetype<usize>(members);
}

/** Forgets all sets; their memory is about to be reused. */
export function forgetSets(): void {
  ends = changetype<Growable>(0);
  members = changetype<Growable>(0);
}

/** Begins the next set, without a label. Returns a status. */
export function addSet(): i32 {
  if (!changetype<usize>(ends)) return ERR_BAD_STATE;
  return appendWord32(ends, members.bytes >> 2) ? OK : ERR_OUT_OF_MEMORY;
}

/** Adds a label to the set that was begun last. Returns a status. */
export function addSetLabel(label: u32): i32 {
  if (setCount() == 0) return ERR_BAD_STATE;
  if (label >= <u32>MAX_LABELS || setHas(setCount() - 1, label)) return ERR_LABEL_OUT_OF_RANGE;
  if (!appendWord32(members, label)) return ERR_OUT_OF_MEMORY;
  store<u32>(ends.address + ((<usize>(setCount() - 1)) << 2), members.bytes >> 2);
  behindLabels = max(behindLabels, label + 1);
  return OK;
}

export function setCount(): u32 {
  return changetype<usize>(ends) ? ends.bytes >> 2 : 0;
}

// @ts-ignore: decorator
@inline
function firstOfSet(set: u32): u32 {
  return set ? word32At(ends, set - 1) : 0;
}

export function setSize(set: u32): u32 {
  return word32At(ends, set) - firstOfSet(set);
}

/** Label number `index` of a set. */
export function setLabel(set: u32, index: u32): u32 {
  return word32At(members, firstOfSet(set) + index);
}

export function setHas(set: u32, label: u32): bool {
  for (let i: u32 = 0, size = setSize(set); i < size; i++) if (setLabel(set, i) == label) return true;
  return false;
}

/** The same for equal sets, whatever their numbers. */
export function setChecksum(set: u32): u32 {
  let sum: u32 = 0;
  for (let i: u32 = 0, size = setSize(set); i < size; i++) sum = (sum + setLabel(set, i) + 1) * 0x9e3779b1;
  return sum;
}

/** Whether `target` is that of a sample: one of `labels` labels, or with `isSeveral` one of the sets, which must have no others. */
export function isTarget(target: u32, isSeveral: bool, labels: u32): bool {
  return isSeveral ? target < setCount() && behindLabels <= labels : target < labels;
}

/**
 * Sum over f32[count] logits, each times `scale`, of max(z, 0) - z y + log(1 + e^-|z|), where y is 1 for a label of the target, else
 * 0, smoothed towards a half.
 */
export function sigmoidLoss(logits: usize, count: u32, target: u32, isSeveral: bool, scale: f32, smoothing: f32): f32 {
  let sum: f32 = 0;
  for (let k: u32 = 0; k < count; k++) {
    const z: f32 = load<f32>(logits + ((<usize>k) << 2)) * scale;
    const isTrue = isSeveral ? setHas(target, k) : target == k;
    const y: f32 = isTrue ? <f32>1 - smoothing * <f32>0.5 : smoothing * <f32>0.5;
    sum += max<f32>(z, 0) - z * y + logF32(<f32>1 + expF32(-abs<f32>(z)));
  }
  return sum;
}
