// Rows of f32 and lists of u32 in linear memory: what the kernels of training share. Loads never
// read beyond a row.

// @ts-ignore: decorator
@inline
export function loadU32(base: usize, index: u32): u32 {
  return load<u32>(base + ((<usize>index) << 2));
}

// @ts-ignore: decorator
@inline
export function storeU32(base: usize, index: u32, value: u32): void {
  store<u32>(base + ((<usize>index) << 2), value);
}

/** target[length] = source[length]. */
export function copyRow(target: usize, source: usize, length: u32): void {
  const end = target + ((<usize>length) << 2);
  for (; target + 16 <= end; target += 16, source += 16) v128.store(target, v128.load(source));
  for (; target < end; target += 4, source += 4) store<f32>(target, load<f32>(source));
}

/** target[length] += source[length]. */
export function addRow(target: usize, source: usize, length: u32): void {
  const end = target + ((<usize>length) << 2);
  for (; target + 16 <= end; target += 16, source += 16)
    v128.store(target, f32x4.add(v128.load(target), v128.load(source)));
  for (; target < end; target += 4, source += 4) store<f32>(target, load<f32>(target) + load<f32>(source));
}

/** target[length] += scale * source[length]. */
export function addScaledRow(target: usize, source: usize, scale: f32, length: u32): void {
  const end = target + ((<usize>length) << 2);
  const factor = f32x4.splat(scale);
  for (; target + 16 <= end; target += 16, source += 16) {
    v128.store(target, f32x4.add(v128.load(target), f32x4.mul(factor, v128.load(source))));
  }
  for (; target < end; target += 4, source += 4) store<f32>(target, load<f32>(target) + scale * load<f32>(source));
}

/** target[length] = a[length] * b[length], length a multiple of 4. */
export function multiplyRow(target: usize, a: usize, b: usize, length: u32): void {
  for (const end = target + ((<usize>length) << 2); target < end; target += 16, a += 16, b += 16) {
    v128.store(target, f32x4.mul(v128.load(a), v128.load(b)));
  }
}

/** target[length] *= scale. */
export function scaleRow(target: usize, scale: f32, length: u32): void {
  for (const end = target + ((<usize>length) << 2); target < end; target += 4)
    store<f32>(target, load<f32>(target) * scale);
}
