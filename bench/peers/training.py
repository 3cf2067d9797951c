"""Keras in training: python training.py FOLDER MODEL. A line on stdin is an epoch of model.fit, answered by {"time": us a text, "loss"}."""
import json
import os
import sys
import time

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # what libraries print is no answer

import numpy as np


def make():
    import keras
    with open(os.path.join(sys.argv[1], sys.argv[2] + ".json"), encoding="utf-8") as file:
        shape = json.load(file)
    model = keras.Sequential([
        keras.Input(shape=(shape["steps"],), dtype="int32"),
        keras.layers.Embedding(shape["rows"], shape["width"]),
        keras.layers.LSTM(shape["units"]),
        keras.layers.Dense(shape["outputs"], activation=shape["activation"]),
    ])
    weights = np.fromfile(os.path.join(sys.argv[1], sys.argv[2] + ".f32"), dtype="<f4")
    sizes = np.cumsum([variable.size for variable in model.get_weights()])
    model.set_weights([part.reshape(variable.shape) for part, variable in zip(np.split(weights, sizes[:-1]), model.get_weights())])
    model.compile(optimizer="adam", loss="binary_crossentropy" if shape["outputs"] == 1 else "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model, np.array(shape["ids"], np.int32), np.array(shape["labels"], np.float32 if shape["outputs"] == 1 else np.int32)


model = None
for line in sys.stdin:
    try:
        if model is None:
            model, ids, labels = make()
        start = time.perf_counter()
        history = model.fit(ids, labels, batch_size=32, epochs=1, verbose=0)
        answer = {"ok": True, "time": (time.perf_counter() - start) / len(ids) * 1e6, "loss": history.history["loss"][-1]}
    except Exception as error:  # told, not thrown: the sitting goes on without it
        answer = {"ok": False, "error": str(error).split("\n")[0]}
    answers.write(json.dumps(answer) + "\n")
