// Short spellings of layer records for tests: a chain that knows each input's width.
import {
  LAYER_BIDIRECTIONAL,
  LAYER_DENSE,
  LAYER_DROPOUT,
  LAYER_EMBEDDING,
  LAYER_LSTM,
  LAYER_MINGRU,
  LAYER_POOL,
  LAYER_POOL_MAX,
  LAYER_POOL_MEAN,
} from "../../../assembly/abi.ts";
import type { LayerRecord } from "../../support/keras-weights.ts";

type Draft = Omit<LayerRecord, "inputWidth" | "outputWidth">;

export const lstm = (units: number, flags = 0): Draft => ({ kind: LAYER_LSTM, units, flags });
export const minGru = (units: number, flags = 0): Draft => ({ kind: LAYER_MINGRU, units, flags });
export const pool = (flags: number): Draft => ({ kind: LAYER_POOL, flags });
export const dropout = (rate: number, flags = 0): Draft => ({ kind: LAYER_DROPOUT, rate, flags });
export const dense = (units: number, activation: number): Draft => ({ kind: LAYER_DENSE, units, activation });

/** Embedding(rows, width) and what follows it. */
export function chain(rows: number, width: number, flags: number, ...rest: Draft[]): LayerRecord[] {
  const layers: LayerRecord[] = [{ kind: LAYER_EMBEDDING, flags, inputWidth: rows, units: width, outputWidth: width }];
  for (const draft of rest) {
    const inputWidth = layers.at(-1)!.outputWidth;
    let outputWidth = draft.units ?? inputWidth;
    if ((draft.kind === LAYER_LSTM || draft.kind === LAYER_MINGRU) && (draft.flags ?? 0) & LAYER_BIDIRECTIONAL)
      outputWidth *= 2;
    if (draft.kind === LAYER_POOL && draft.flags === (LAYER_POOL_MAX | LAYER_POOL_MEAN)) outputWidth *= 2;
    layers.push({ ...draft, inputWidth, outputWidth });
  }
  return layers;
}
