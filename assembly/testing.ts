// The tests' entry: every inner kernel by name. It also keeps all code reachable,
// since asc checks only what an entry reaches.
export * from "./activation";
export * from "./arena";
export * from "./lstm";
export * from "./lowercase";
export * from "./model";
export * from "./ngram";
export * from "./tokenizer";
export * from "./utf8";
export * from "./vocabulary";
export * from "./train/fit";
