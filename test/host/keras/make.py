"""Writes the small Keras models of this folder, with their weights and scores as Keras sees them.

Run by hand, once per major version of Keras:
    KERAS_BACKEND=jax python make.py     (pip install keras==3.15.1 jax)
    python make.py                         (pip install tensorflow-cpu==2.15.1 "numpy<2")
"""
import json
import numpy as np
import keras
from keras import layers

MAJOR = int(keras.__version__.split(".")[0])


def stack():
    """Every layer kind that is reproduced, over masked steps of known length."""
    if MAJOR == 2:
        first = [layers.Embedding(9, 3, mask_zero=True, input_length=6)]
    else:
        first = [keras.Input((6,)), layers.Embedding(9, 3, mask_zero=True)]
    return keras.Sequential(first + [
        layers.SpatialDropout1D(0.25),
        layers.LSTM(4, return_sequences=True, dropout=0.1),
        layers.Bidirectional(layers.LSTM(2, return_sequences=True)),
        layers.GlobalAveragePooling1D(),
        layers.Dropout(0.5),
        layers.Dense(5, activation="relu", use_bias=False),
        layers.Dense(3),
        layers.Activation("softmax"),
    ])


def functional():
    """A linear functional graph of unknown length; masked, so Keras 3 adds a NotEqual node."""
    ids = keras.Input((None,))
    x = layers.Embedding(9, 3, mask_zero=True)(ids)
    x = layers.LSTM(4, use_bias=False)(x)
    return keras.Model(ids, layers.Dense(1, activation="sigmoid")(x))


def pooled():
    """Largest value over time, without a mask."""
    ids = keras.Input((6,))
    x = layers.Embedding(9, 3)(ids)
    x = layers.Bidirectional(layers.LSTM(2, return_sequences=True))(x)
    x = layers.GlobalMaxPooling1D()(x)
    return keras.Model(ids, layers.Dense(2, activation="softmax")(x))


for build in (stack, functional, pooled):
    random = np.random.default_rng(7)
    model = build()
    x = np.array([[0, 0, 3, 1, 8, 2], [0, 4, 4, 4, 5, 6], [1, 2, 3, 4, 5, 6]], dtype="int32")
    model.predict(x, verbose=0)
    model.set_weights([random.uniform(-0.8, 0.8, w.shape).astype("float32") for w in model.get_weights()])
    name = f"{build.__name__}-keras{MAJOR}"
    model.save(f"{name}.keras")
    model.save(f"{name}.h5")
    with open(f"{name}.json", "w") as file:
        json.dump({
            "keras": keras.__version__,
            "ids": x.tolist(),
            "scores": model.predict(x, verbose=0).astype(float).tolist(),
            "weights": [{"shape": list(w.shape), "values": w.astype(float).ravel().tolist()} for w in model.get_weights()],
        }, file)
        file.write("\n")

if MAJOR == 3:
    # HDF5 files that Keras does not write, for the reader to refuse.
    import h5py
    with h5py.File("external-link.h5", "w", libver="latest") as file:
        file["model_weights"] = h5py.ExternalLink("secrets.h5", "/")
    with h5py.File("odd-tensors.h5", "w") as file:
        file.create_dataset("chunked", data=np.zeros((8, 4), "float32"), chunks=(2, 2), compression="gzip")
        file.create_dataset("half", data=np.zeros((2, 2), "float16"))
        file.create_dataset("double", data=np.zeros((2, 2), "float64"))
        file.create_dataset("external", (2, 2), "float32", external=[("secrets.bin", 0, 16)])
        file.create_dataset("unwritten", (2, 2), "float32")
        file.create_dataset("big_endian", data=np.zeros((2, 2), ">f4"))
        file["soft"] = h5py.SoftLink("/soft")
    # A list of names that is too long for one attribute is parted, and may name the state of dropout.
    with h5py.File("pooled-keras3.h5") as whole, h5py.File("parted-names.h5", "w") as file:
        for name in whole.attrs:
            file.attrs[name] = whole.attrs[name]
        whole.copy("model_weights", file)
        layer = file["model_weights/bidirectional_1"]
        names = [*layer.attrs["weight_names"].astype("S"), b"bidirectional_1/seed_generator/seed_generator_state"]
        del layer.attrs["weight_names"]
        layer.attrs["weight_names0"] = names[:4]
        layer.attrs["weight_names1"] = names[4:]
