# What Keras and onnxruntime make of exported models. Argument: a folder for each model, with model.keras, model.onnx,
# tokenizer.json, texts.json and ids.json (rows of padded ids). Writes to each judged.json: scores for the ids, and the ids
# of the texts; and model-again.keras, which Keras has saved again.
import json
import os
import sys

os.environ["KERAS_BACKEND"] = "jax"
import keras  # noqa: E402
import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
from keras.src.legacy.preprocessing.text import tokenizer_from_json  # noqa: E402


def read(path):
    with open(path) as file:
        return file.read()


for folder in sys.argv[1:]:
    ids = np.array(json.loads(read(f"{folder}/ids.json")))
    model = keras.models.load_model(f"{folder}/model.keras", compile=False)
    model.save(f"{folder}/model-again.keras")
    session = onnxruntime.InferenceSession(f"{folder}/model.onnx")
    (onnx,) = session.run(["scores"], {"ids": ids.astype("int64")})
    tokenizer = tokenizer_from_json(read(f"{folder}/tokenizer.json"))
    judged = {
        "keras": model.predict(ids.astype("int32"), verbose=0).tolist(),
        "onnx": onnx.tolist(),
        "tokens": tokenizer.texts_to_sequences(json.loads(read(f"{folder}/texts.json"))),
    }
    with open(f"{folder}/judged.json", "w") as file:
        json.dump(judged, file)
