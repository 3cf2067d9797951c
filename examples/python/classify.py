"""A model file of edgelabel in Python: loaded once, then a function call a text.

The exports it calls are described in docs/runtimes.md.
"""

import sys

from wasmtime import Engine, Linker, Module, Store, WasiConfig

TEXT_CAPACITY = 1 << 20


class Classifier:
    def __init__(self, path):
        engine = Engine()
        self.store = Store(engine)
        self.store.set_wasi(WasiConfig())  # an empty one: no files, no arguments
        linker = Linker(engine)
        linker.define_wasi()
        self.exports = linker.instantiate(self.store, Module.from_file(engine, path)).exports(self.store)
        if status := self.exports["loadEmbedded"](self.store):
            raise ValueError(f"{path}: status {status}")
        self.memory = self.exports["memory"]
        self.text = self.exports["textPtr"](self.store)
        self.line = self.exports["linePtr"](self.store)

    def classify(self, text):
        """The answer to a text in UTF-8: one line of JSON with all scores, as bytes for json.loads."""
        if len(text) > TEXT_CAPACITY:
            raise ValueError("the text is longer than 1 MiB")
        self.memory.write(self.store, text, self.text)
        if status := self.exports["classify"](self.store, len(text)):
            raise RuntimeError(f"classify: status {status}")
        length = self.exports["renderLine"](self.store, 1, 0)
        return bytes(self.memory.read(self.store, self.line, self.line + length))


if __name__ == "__main__":
    classifier = Classifier(sys.argv[1])
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(classifier.classify(line.removesuffix(b"\n")))
