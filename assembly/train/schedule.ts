// Learning rate of a step: base rate, schedule, step -> f32. Called by run.ts.
import { SCHEDULE_COSINE, SCHEDULE_LINEAR } from "../abi";

/**
 * Rate of step `step` of `steps`, counted from 0. The first `warmup` share of the steps
 * climbs linearly to `base`; with p in [0, 1) the share of the rest that is done, then
 *   constant  base
 *   linear    base left(1 - p)
 *   cosine    base left((1 + cos(pi p)) / 2), Keras' CosineDecay with `decay` for alpha
 * where left(x) = decay + (1 - decay) x: linear and cosine end at `decay` of the base rate.
 */
export function learningRateAt(schedule: u32, base: f32, warmup: f32, decay: f32, step: u32, steps: u32): f32 {
  const climb = <u32>(warmup * <f32>steps);
  if (step < climb) return (base * <f32>(step + 1)) / <f32>climb;
  const p = <f32>(step - climb) / <f32>(steps - climb);
  if (schedule == SCHEDULE_LINEAR) return base * left(<f32>1 - p, decay);
  if (schedule == SCHEDULE_COSINE) {
    // cos^2(pi p / 2), which rounding never makes negative.
    const c = sinOfQuarter(<f32>1 - p);
    return base * left(c * c, decay);
  }
  return base;
}

function left(x: f32, floor: f32): f32 {
  return floor + (<f32>1 - floor) * x;
}

/** sin(pi p / 2) for p in [0, 1]; error below 4e-6: the Taylor polynomial of degree 9. */
function sinOfQuarter(p: f32): f32 {
  const x = p * <f32>1.5707963267948966;
  const x2 = x * x;
  return (
    x * (<f32>1 - x2 * (<f32>0.16666667 - x2 * (<f32>8.3333333e-3 - x2 * (<f32>1.984127e-4 - x2 * <f32>2.7557319e-6))))
  );
}
