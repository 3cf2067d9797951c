// The tests' entry: every inner kernel by name. It also keeps all code reachable,
// since asc checks only what an entry reaches.
export * from "./activation";
export * from "./arena";
export * from "./lowercase";
export * from "./lstm";
export * from "./model";
export * from "./ngram";
export * from "./tokenizer";
export * from "./train/backward";
export * from "./train/batch";
export * from "./train/fit";
export * from "./train/forward";
export * from "./train/initialize";
export * from "./train/loss";
export * from "./train/matmul";
export * from "./train/network";
export * from "./train/optimizer";
export * from "./train/random";
export * from "./train/step";
export * from "./utf8";
export * from "./vocabulary";
