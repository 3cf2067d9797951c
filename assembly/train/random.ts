// Seeded random numbers for training: xoshiro128** (Blackman and Vigna, 2018). Its state is a
// struct, so that a saved training resumes with the same bits.
// Random -> uniform f32, normal f32, unbiased index, shuffled u32[length], dropout masks f32[length].
// The seed, from the caller, is the only source of randomness.

/** 16 bytes; never all zero. */
@unmanaged
export class Random {
  a: u32;
  b: u32;
  c: u32;
  d: u32;
}

/** Fills the state from `seed` by splitmix32, so that close seeds give unrelated streams. */
export function randomSeed(random: Random, seed: u32): void {
  let p = changetype<usize>(random);
  for (const end = p + offsetof<Random>(); p < end; p += 4) {
    seed += 0x9e3779b9;
    let z = seed;
    z = (z ^ (z >> 16)) * 0x21f0aaad;
    z = (z ^ (z >> 15)) * 0x735a2d97;
    store<u32>(p, z ^ (z >> 15));
  }
  if ((random.a | random.b | random.c | random.d) == 0) random.a = 1;
}

/** 32 random bits. */
export function randomBits(random: Random): u32 {
  const result = rotl(random.b * 5, 7) * 9;
  const t = random.b << 9;
  random.c ^= random.a;
  random.d ^= random.b;
  random.b ^= random.c;
  random.a ^= random.d;
  random.c ^= t;
  random.d = rotl(random.d, 11);
  return result;
}

/** Uniform in [0, 1), a multiple of 2^-24. */
export function randomUniform(random: Random): f32 {
  return <f32>(randomBits(random) >> 8) * <f32>5.9604644775390625e-8;
}

/** Uniform in 0 ... count - 1, without bias: draws again when the bits fall into the remainder of 2^32 / count. */
export function randomIndex(random: Random, count: u32): u32 {
  const rejected: u32 = (<u32>0 - count) % count; // 2^32 mod count
  let bits = randomBits(random);
  while (bits < rejected) bits = randomBits(random);
  return bits % count;
}

/** Standard normal, by Marsaglia's polar method: only a logarithm and a square root. */
export function randomNormal(random: Random): f32 {
  while (true) {
    const x: f32 = randomUniform(random) * 2 - 1;
    const y: f32 = randomUniform(random) * 2 - 1;
    const s: f32 = x * x + y * y;
    if (s > 0 && s < 1) return x * sqrt<f32>((<f32>-2 * logF32(s)) / s);
  }
}

/** Fisher-Yates over u32[length]. */
export function shuffle(random: Random, values: usize, length: u32): void {
  for (let i = length; i > 1; i--) {
    const p = values + ((<usize>(i - 1)) << 2);
    const q = values + ((<usize>randomIndex(random, i)) << 2);
    const value = load<u32>(p);
    store<u32>(p, load<u32>(q));
    store<u32>(q, value);
  }
}

/**
 * f32[length]: 0 with probability `rate` (0 <= rate < 1), else 1 / (1 - rate). Length is a
 * multiple of 4: four streams run side by side, one a lane, seeded from `random`.
 */
export function randomMask(random: Random, rate: f32, values: usize, length: u32): void {
  const threshold = i32x4.splat(<u32>(rate * <f32>4294967296));
  const kept = f32x4.splat(<f32>1 / (<f32>1 - rate));
  let a = v128.or(fourBits(random), i32x4.splat(1)); // so that no lane is all zero
  let b = fourBits(random),
    c = fourBits(random),
    d = fourBits(random);
  for (const end = values + ((<usize>length) << 2); values < end; values += 16) {
    // randomBits, with b * 5 and * 9 as shifts and sums.
    const bits = rotateLanes(i32x4.add(b, i32x4.shl(b, 2)), 7);
    v128.store(values, v128.and(kept, i32x4.ge_u(i32x4.add(bits, i32x4.shl(bits, 3)), threshold)));
    const t = i32x4.shl(b, 9);
    c = v128.xor(c, a);
    d = v128.xor(d, b);
    b = v128.xor(b, c);
    a = v128.xor(a, d);
    c = v128.xor(c, t);
    d = rotateLanes(d, 11);
  }
}

/** 32 random bits a lane, lane 0 drawn first. */
function fourBits(random: Random): v128 {
  let lanes = i32x4.splat(randomBits(random));
  lanes = i32x4.replace_lane(lanes, 1, randomBits(random));
  lanes = i32x4.replace_lane(lanes, 2, randomBits(random));
  return i32x4.replace_lane(lanes, 3, randomBits(random));
}

// @ts-ignore: decorator
@inline
function rotateLanes(x: v128, count: i32): v128 {
  return v128.or(i32x4.shl(x, count), i32x4.shr_u(x, 32 - count));
}

/**
 * Natural logarithm of a positive, finite, normal x. Relative error below 2e-7, absolute
 * below 1e-7 near 1. Polynomial of Cephes logf (S. L. Moshier) on [sqrt(1/2), sqrt(2)).
 */
export function logF32(x: f32): f32 {
  const bits = reinterpret<u32>(x);
  let exponent = <i32>(bits >> 23) - 126;
  let m = reinterpret<f32>((bits & 0x007fffff) | 0x3f000000);
  if (m < <f32>0.707106781186547524) {
    exponent--;
    m = m + m;
  }
  m -= 1;
  const z: f32 = m * m;
  let p: f32 = <f32>7.0376836292e-2 * m - <f32>1.151461031e-1;
  p = p * m + <f32>1.167699874e-1;
  p = p * m - <f32>1.2420140846e-1;
  p = p * m + <f32>1.4249322787e-1;
  p = p * m - <f32>1.6668057665e-1;
  p = p * m + <f32>2.0000714765e-1;
  p = p * m - <f32>2.4999993993e-1;
  p = p * m + <f32>3.3333331174e-1;
  p = p * m * z;
  p += <f32>exponent * <f32>-2.1219444e-4;
  p += z * <f32>-0.5;
  return m + p + <f32>exponent * <f32>0.693359375;
}
