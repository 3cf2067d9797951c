// The part of jsfive 0.4 (which ships no types) that hdf5.ts uses.
declare module "jsfive" {
  interface DataObjects {
    /** Chunk shape; null when the data is contiguous. */
    readonly chunks: number[] | null;
    find_msg_type(type: number): unknown[];
  }
  export class Group {
    readonly keys: string[];
    readonly attrs: Record<string, unknown>;
    get(path: string): Group | Dataset | null;
  }
  export class Dataset {
    readonly shape: number[];
    readonly dtype: string | unknown[];
    readonly value: unknown[];
    readonly _dataobjects: DataObjects;
  }
  export class File extends Group {
    constructor(buffer: ArrayBuffer, name: string);
  }
}
