// The LSTM's inner loops, rung by rung, against plain twins: packed order, products in
// int8 (bit for bit) and f32, state update, Q14, one step. Sizes where nothing is a
// multiple of anything, and the extremes of every integer.
import { describe, expect, test } from "vitest";
import { Seeded } from "../../support/models.ts";
import { cell, multiply, roundEven } from "../../support/reference.ts";
import { f32, loadWasm, put } from "../../support/wasm.ts";

const UNITS = [1, 2, 3, 4, 5, 7, 8, 9, 31, 33, 64];
const INPUTS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65];
const SIZES = [
  ...UNITS.flatMap((units) => INPUTS.map((inputs) => ({ units, inputs }))),
  ...[127, 129, 1023, 1024].map((inputs) => ({ units: 9, inputs })),
];
/** A position of the packed order -> gate and unit, from the picture in lstm.ts. */
const unpacked = (p: number): { gate: number; unit: number } => ({ gate: (p >> 2) & 3, unit: 4 * (p >> 4) + (p & 3) });
const groupsOf = (units: number): number => Math.ceil(units / 4);

let wasm = loadWasm("testing");
const fresh = (): void => {
  wasm = loadWasm("testing");
};

/** z in Keras' order, gate by gate, into the packed order; what pads H is `filler`. */
function packed(z: ArrayLike<number>, units: number, filler = 0): Float32Array {
  return Float32Array.from({ length: 16 * groupsOf(units) }, (_, p) => {
    const { gate, unit } = unpacked(p);
    return unit < units ? z[gate * units + unit]! : filler;
  });
}

test("packedRow tells the row of each position, and -1 for the padding of H", () => {
  for (const units of UNITS) {
    const rows = Array.from({ length: 16 * groupsOf(units) }, (_, p) => wasm["packedRow"](p, units));
    expect(rows).toEqual(
      Array.from(rows, (_, p) => {
        const { gate, unit } = unpacked(p);
        return unit < units ? gate * units + unit : -1;
      }),
    );
    expect(rows.filter((row) => row >= 0).sort((a, b) => a - b)).toEqual(
      Array.from({ length: 4 * units }, (_, i) => i),
    );
  }
});

test("exponentScale turns sigmoid's and tanh's exponents into powers of two", () => {
  for (let p = 0; p < 64; p++)
    expect(wasm["exponentScale"](p)).toBe(Math.fround((unpacked(p).gate === 2 ? -2 : -1) * Math.LOG2E));
});

// --- int8 ---------------------------------------------------------------------------

/** weights (positions, inputs), base and scale packed: z as lstm.ts says, every operation rounded to f32 once. */
function projectTwin(
  weights: Int8Array,
  scale: Float32Array,
  base: Float32Array,
  input: Int16Array,
  inputs: number,
): Float32Array {
  return base.map((start, p) => {
    let sum = 0;
    for (let k = 0; k < inputs; k++) sum += weights[p * inputs + k]! * input[k]!;
    return Math.fround(start + Math.fround(scale[p]! * Math.fround(sum)));
  });
}

function projectS8(
  weights: Int8Array,
  scale: Float32Array,
  base: Float32Array,
  input: Int16Array,
  inputs: number,
): Float32Array {
  const groups = base.length / 16;
  const pairs = 2 * Math.ceil(inputs / 4);
  // [group][pair][position][input]
  const interleaved = new Int16Array(2 * base.length * pairs);
  for (let p = 0; p < base.length; p++) {
    for (let k = 0; k < inputs; k++)
      interleaved[(((p >> 4) * pairs + (k >> 1)) * 16 + (p & 15)) * 2 + (k & 1)] = weights[p * inputs + k]!;
  }
  const x = new Int16Array(2 * pairs);
  x.set(input);
  const z = put(wasm, new Float32Array(base.length + 4).fill(7));
  wasm["projectS8"](put(wasm, interleaved), put(wasm, scale), put(wasm, base), put(wasm, x), pairs, groups, z);
  expect([...f32(wasm, z + 4 * base.length, 4)]).toEqual([7, 7, 7, 7]);
  return f32(wasm, z, base.length);
}

describe("projectS8", () => {
  test("is the integer twin, bit for bit, at every size", () => {
    const random = new Seeded(1);
    for (const { units, inputs } of SIZES) {
      fresh();
      const positions = 16 * groupsOf(units);
      const weights = Int8Array.from({ length: positions * inputs }, () => random.below(255) - 127);
      const input = Int16Array.from({ length: inputs }, () => random.below(32769) - 16384);
      const [scale, base] = [random.floats(positions, 1e-4), random.floats(positions, 2)];
      expect(projectS8(weights, scale, base, input, inputs), `units ${units}, inputs ${inputs}`).toEqual(
        projectTwin(weights, scale, base, input, inputs),
      );
    }
  });

  test.each([1, 2, 63, 64, 65, 1023, 1024])("extremes over %i inputs: no sum overflows", (inputs) => {
    fresh();
    const positions = 16;
    const one = new Float32Array(positions).fill(1);
    const zero = new Float32Array(positions);
    for (const [w, x] of [
      [127, 16384],
      [-127, 16384],
      [127, -16384],
      [-127, -16384],
    ] as const) {
      const sum = Math.fround(w * x * inputs);
      const z = projectS8(new Int8Array(positions * inputs).fill(w), one, zero, new Int16Array(inputs).fill(x), inputs);
      expect([...z]).toEqual(Array(positions).fill(sum));
    }
    // Alternating signs cancel exactly.
    const alternating = Int16Array.from({ length: inputs }, (_, k) => (k % 2 ? -16384 : 16384));
    const z = projectS8(new Int8Array(positions * inputs).fill(127), one, zero, alternating, inputs);
    expect([...z]).toEqual(Array(positions).fill(inputs % 2 ? 127 * 16384 : 0));
  });
});

// --- f32 ----------------------------------------------------------------------------

describe("projectF32", () => {
  function projectF32(kernel: Float32Array, base: Float32Array, input: Float32Array, units: number): Float32Array {
    const positions = 16 * groupsOf(units);
    const inputs = input.length;
    const order = new Float32Array(positions * inputs);
    for (let p = 0; p < positions; p++) {
      const { gate, unit } = unpacked(p);
      if (unit < units)
        for (let k = 0; k < inputs; k++)
          order[((p >> 4) * inputs + k) * 16 + (p & 15)] = kernel[k * 4 * units + gate * units + unit]!;
    }
    const z = put(wasm, new Float32Array(positions));
    wasm["projectF32"](put(wasm, order), put(wasm, base), put(wasm, input), inputs, groupsOf(units), z);
    return f32(wasm, z, positions);
  }

  test("is base + W x at every size", () => {
    const random = new Seeded(2);
    let most = 0;
    for (const { units, inputs } of SIZES) {
      fresh();
      const [kernel, bias, x] = [
        random.floats(4 * units * inputs, 1),
        random.floats(4 * units, 1),
        random.floats(inputs, 1),
      ];
      const z = projectF32(kernel, packed(bias, units), x, units);
      const expected = packed(
        multiply([...x], kernel, 4 * units).map((value, j) => value + bias[j]!),
        units,
      );
      // Each of the inputs + 1 roundings is at most half a unit in the last place of a partial sum.
      const bound = (inputs + 1) * (inputs + 1) * 2 ** -24;
      z.forEach((value, p) => {
        const error = Math.abs(value - expected[p]!);
        most = Math.max(most, error);
        if (!(error <= bound)) expect(`units ${units}, inputs ${inputs}, position ${p}: ${value}`).toBe(expected[p]);
      });
    }
    console.log(`projectF32: worst error ${most.toExponential(3)}`);
    expect(most).toBeLessThan(5e-5);
  });

  test("NaN in an input stays NaN, and the state that follows is a number all the same", () => {
    fresh();
    const z = projectF32(new Float32Array(16).fill(1), new Float32Array(16), Float32Array.of(NaN), 4);
    expect(z.every(Number.isNaN)).toBe(true);
    const [c, h] = [put(wasm, new Float32Array(4)), put(wasm, new Float32Array(4))];
    wasm["updateState"](put(wasm, z), c, h, 1);
    expect([...f32(wasm, c, 4), ...f32(wasm, h, 4)].every((value) => Math.abs(value) <= 1)).toBe(true);
  });
});

// --- state --------------------------------------------------------------------------

describe.each([
  ["updateState", 1.5e-6],
  ["updateStateCoarsely", 1e-5],
] as const)("%s", (name, bound) => {
  test.each(UNITS)("%i units: c and h as Keras says", (units) => {
    fresh();
    const random = new Seeded(units);
    for (const magnitude of [0.1, 3, 30, 1000]) {
      const z = random.floats(4 * units, magnitude);
      const before = random.floats(units, 4);
      const groups = groupsOf(units);
      const c = put(
        wasm,
        Float32Array.from({ length: 4 * groups }, (_, u) => before[u] ?? 0),
      );
      const h = put(wasm, new Float32Array(4 * groups));
      wasm[name](
        put(
          wasm,
          packed(z, units).map((value, p) => value * wasm["exponentScale"](p)),
        ),
        c,
        h,
        groups,
      );
      const expected = cell([...z], [...before]);
      const [foundC, foundH] = [f32(wasm, c, units), f32(wasm, h, units)];
      // |c| <= 5: sigmoid's and tanh's bounds, times it.
      foundC.forEach((value, u) => expect(Math.abs(value - expected.c[u]!)).toBeLessThan(bound));
      foundH.forEach((value, u) => expect(Math.abs(value - expected.h[u]!)).toBeLessThan(bound));
      // Q14 states rely on it.
      expect(foundH.every((value) => Math.abs(value) <= 1)).toBe(true);
      // What pads H begins with zeros and stays so: i c has c = tanh 0.
      expect(
        [...f32(wasm, c + 4 * units, 4 * groups - units), ...f32(wasm, h + 4 * units, 4 * groups - units)].every(
          (value) => value === 0,
        ),
      ).toBe(true);
    }
  });
});

describe("Q14", () => {
  const quantize = (values: number[]): number[] => {
    const count = 4 * Math.ceil(values.length / 4);
    const q14 = put(wasm, new Int16Array(count + 8).fill(77));
    wasm["quantizeState"](
      put(
        wasm,
        Float32Array.from({ length: count }, (_, i) => values[i] ?? 0),
      ),
      q14,
      count,
    );
    expect([...new Int16Array(wasm.memory.buffer, q14 + 2 * count, 8)]).toEqual(Array(8).fill(77));
    return [...new Int16Array(wasm.memory.buffer, q14, values.length)];
  };

  test("ties go to the even neighbour", () => {
    const ties = [0.5, 1.5, 2.5, 3.5, -0.5, -1.5, -2.5, 16383.5, -16383.5, 8191.5, 8192.5];
    expect(quantize(ties.map((x) => x / 16384))).toEqual([0, 2, 2, 4, 0, -2, -2, 16384, -16384, 8192, 8192]);
  });

  test("zeros, ends and neighbours", () => {
    expect(quantize([0, -0, 1, -1, 1 / 16384, -1 / 16384, 1e-45, 0.99999994])).toEqual([
      0, 0, 16384, -16384, 1, -1, 0, 16384,
    ]);
  });

  test("is the twin for every sixteenth of a step", () => {
    fresh();
    const values = Array.from({ length: 32 * 16384 + 1 }, (_, i) => (i - 16 * 16384) / (16 * 16384));
    const found = quantize(values);
    const wrong = values.findIndex((x, i) => found[i] !== (roundEven(x * 16384) || 0));
    expect(wrong).toBe(-1);
  });

  test("toQ14 is the same rounding", () => {
    const values = Float32Array.of(0.5 / 16384, 1.5 / 16384, -1, 1, 1.99, -1.99, 0.25, -0.123);
    const address = put(wasm, values);
    wasm["toQ14Array"](address, values.length);
    expect([...new Int32Array(wasm.memory.buffer, address, values.length)]).toEqual(
      [...values].map((x) => roundEven(x * 16384)),
    );
  });
});
