// The tests' entry: every inner kernel by name. It also keeps all code reachable,
// since asc checks only what an entry reaches.
export * from "./arena";
