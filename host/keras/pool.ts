// The layers in which Keras does what our Pool does, where no single one of its layers does: the
// maximum over tokens alone (GlobalMaxPooling1D includes masked steps), the mean, also of a
// text without tokens (GlobalAveragePooling1D gives NaN), and both side by side. An export
// writes these layers, and an import knows them again.
import { LAYER_POOL_MAX, LAYER_POOL_MEAN } from "../../assembly/abi.ts";

type Json = Record<string, unknown>;

/** A layer in the config of a Functional model, with the names of the layers that it is called on. */
export interface FunctionalLayer {
  className: string;
  name: string;
  config: Json;
  inputs: string[];
}

/** Added to padded steps, it keeps them out of a maximum of states, which are between -1 and 1, and out of a softmax. */
const FAR_BELOW = 1000;

/** All begin with the prefix; the last one is the output. `ids` and `states` are the layers pooled over, in a model of `steps`. */
export function poolLayers(
  flags: number,
  { ids, states, steps, isMasked }: { ids: string; states: string; steps: number; isMasked: boolean },
): FunctionalLayer[] {
  const layers: FunctionalLayer[] = [];
  const add = (className: string, name: string, inputs: string[], config: Json = {}): string => {
    layers.push({ className, name, config, inputs });
    return name;
  };
  let padding = "";
  if (isMasked) {
    // 0 for padding, FAR_BELOW for a token.
    const scaled = add("Rescaling", "pool_scale", [ids], { scale: FAR_BELOW, offset: 0 });
    const clipped = add("ReLU", "pool_tokens", [scaled], { max_value: FAR_BELOW });
    const tokens = add("Reshape", "pool_steps", [clipped], { target_shape: [steps, 1] });
    const any = add("GlobalMaxPooling1D", "pool_any", [tokens], { keepdims: true });
    // 0 for a token, -FAR_BELOW for padding; in a text without tokens 0 everywhere, where all states are 0 too.
    padding = add("Subtract", "pool_padding", [tokens, any]);
  }
  const outputs: string[] = [];
  if (flags & LAYER_POOL_MAX) {
    const shown = isMasked ? add("Add", "pool_states", [states, padding]) : states;
    outputs.push(add("GlobalMaxPooling1D", "pool_max", [shown], { keepdims: false }));
  }
  if (flags & LAYER_POOL_MEAN) {
    if (isMasked) {
      const shares = add("Softmax", "pool_shares", [padding], { axis: 1 });
      const sum = add("Dot", "pool_sum", [shares, states], { axes: 1, normalize: false });
      outputs.push(add("Flatten", "pool_mean", [sum]));
    } else outputs.push(add("GlobalAveragePooling1D", "pool_mean", [states], { keepdims: false }));
  }
  if (outputs.length > 1) add("Concatenate", "pool", outputs, { axis: -1 });
  return layers;
}

const PREFIX = "pool";

/** The pool among the layers of a model: its flags, and the names of its input, its output and all its layers; undefined when there is none. */
export function findPool(
  layers: readonly FunctionalLayer[],
  ids: string,
  steps: number,
): { flags: number; isMasked: boolean; states: string; output: string; names: Set<string> } | undefined {
  const found = new Map(
    layers.filter(({ name }) => name.startsWith(PREFIX)).map((layer): [string, FunctionalLayer] => [layer.name, layer]),
  );
  const states = [...found.values()].flatMap(({ inputs }) => inputs).find((name) => name !== ids && !found.has(name));
  if (states === undefined) return undefined;
  for (const isMasked of [false, true]) {
    for (const flags of [LAYER_POOL_MAX, LAYER_POOL_MEAN, LAYER_POOL_MAX | LAYER_POOL_MEAN]) {
      const expected = poolLayers(flags, { ids, states, steps, isMasked });
      // A single layer is read like any other one.
      if (expected.length === 1 || expected.length !== found.size) continue;
      if (expected.every((layer) => isSame(layer, found.get(layer.name))))
        return { flags, isMasked, states, output: expected.at(-1)!.name, names: new Set(found.keys()) };
    }
  }
  return undefined;
}

/** Keras adds to what was written, when it saves a model again: other options at their defaults. */
function isSame(expected: FunctionalLayer, found: FunctionalLayer | undefined): boolean {
  return (
    found?.className === expected.className &&
    found.inputs.join("\n") === expected.inputs.join("\n") &&
    Object.entries(expected.config).every(([key, value]) => JSON.stringify(found.config[key]) === JSON.stringify(value))
  );
}
