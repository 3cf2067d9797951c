"""The Python peers at work (a name that nothing else imports): one JSON request a line on stdin, one JSON answer a line on stdout.

load:  {"op":"load","folder","model","contender"} -> {"ok","version","error","scores"}: scores of the first inputs
time:  {"op":"time","model","contender","budget"} -> {"times"}: us a call, each the mean of a short run
Requests come one at a time, so only one contender of the whole benchmark works at any moment.
"""
import importlib.metadata
import json
import os
import sys
import time

for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(name, None)
os.environ.update(OMP_NUM_THREADS="1", TF_NUM_INTRAOP_THREADS="1", TF_NUM_INTEROP_THREADS="1", TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # what libraries print is no answer

import numpy as np

CHECKED = 50
LOOP_TEXTS = 20  # as in ours.mjs
RUN_NS = 200_000  # one figure is the mean of calls that take this long together

loaded = {}


class Model:
    """Shape, weights and inputs of one model, as models.mjs wrote them."""

    def __init__(self, folder, name):
        with open(os.path.join(folder, name + ".json"), encoding="utf-8") as file:
            self.__dict__.update(json.load(file))
        weights = np.fromfile(os.path.join(folder, name + ".f32"), dtype="<f4")
        shapes = [(self.rows, self.width)]
        for _ in range(2 if self.pooled else 1):
            shapes += [(self.width, 4 * self.units), (self.units, 4 * self.units), (4 * self.units,)]
        shapes += [(4 * self.units if self.pooled else self.units, self.outputs), (self.outputs,)]
        self.tensors = []
        for shape in shapes:
            size = int(np.prod(shape))
            self.tensors.append(weights[:size].reshape(shape).copy())
            weights = weights[size:]
        assert weights.size == 0
        self.folder = folder

    def inputs(self, dtype, length=None):
        """One array (1, steps) a text; `length` pads behind, as a fixed shape needs it."""
        arrays = []
        for ids in self.ids:
            if length is not None:
                ids = ids[-length:] + [0] * (length - len(ids))
            arrays.append(np.array([ids], dtype=dtype))
        return arrays


def keras_model(keras, model, steps, unroll=False):
    """The Keras model. steps None = any length. Pooled: bidirectional, then max and mean over time."""
    layers = keras.layers
    ids = keras.Input(shape=(steps,), batch_size=1 if unroll else None, dtype="int32")
    x = layers.Embedding(model.rows, model.width)(ids)
    if model.pooled:
        x = layers.Bidirectional(layers.LSTM(model.units, return_sequences=True, unroll=unroll))(x)
        x = layers.Concatenate()([layers.GlobalMaxPooling1D()(x), layers.GlobalAveragePooling1D()(x)])
    else:
        x = layers.LSTM(model.units, unroll=unroll)(x)
    built = keras.Model(ids, layers.Dense(model.outputs, activation=model.activation)(x))
    built.set_weights(model.tensors)
    return built


def tensorflow():
    import tensorflow as tf
    if not loaded.get("tf"):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        loaded["tf"] = True
    return tf


class Contender:
    """call(i) computes text i; prepare(i) is what may be done before the clock starts."""

    def prepare(self, i):
        pass


class KerasPredict(Contender):
    def __init__(self, model):
        tf = tensorflow()
        self.version = f"Keras {tf.keras.__version__}, TensorFlow {tf.__version__}"
        self.keras = keras_model(tf.keras, model, model.steps)
        self.inputs = model.inputs(np.int32)

    def call(self, i):
        return self.keras.predict(self.inputs[i], verbose=0)[0]


class KerasFunction(Contender):
    def __init__(self, model):
        tf = tensorflow()
        self.version = f"TensorFlow {tf.__version__}"
        built = keras_model(tf.keras, model, model.steps)
        signature = [tf.TensorSpec((1, model.steps), tf.int32)]
        self.function = tf.function(lambda ids: built(ids, training=False), input_signature=signature).get_concrete_function()
        self.inputs = [tf.constant(x) for x in model.inputs(np.int32)]

    def call(self, i):
        return self.function(self.inputs[i]).numpy()[0]


class LiteRt(Contender):
    """unrolled: Keras 3 can only be converted so. fused: Keras 2 yields LiteRT's own LSTM operator."""

    def __init__(self, model, is_fused, is_int8):
        import ai_edge_litert
        from ai_edge_litert.interpreter import Interpreter
        from importlib.metadata import version
        tf = tensorflow()
        self.steps = model.steps or model.longest
        keras = tf.keras
        if is_fused:
            import tf_keras as keras
        built = keras_model(keras, model, self.steps, unroll=not is_fused)
        if is_fused:
            function = tf.function(lambda ids: built(ids, training=False)).get_concrete_function(tf.TensorSpec((1, self.steps), tf.int32))
            converter = tf.lite.TFLiteConverter.from_concrete_functions([function], built)
        else:
            converter = tf.lite.TFLiteConverter.from_keras_model(built)
        if is_int8:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        flat = converter.convert()
        form = f"{'fused' if is_fused else 'unrolled'}.{'int8' if is_int8 else 'f32'}"
        with open(os.path.join(model.folder, f"{model.name}.{form}.tflite"), "wb") as file:
            file.write(flat)  # for bench/arm.mjs
        self.interpreter = Interpreter(model_content=flat, num_threads=1)
        self.interpreter.allocate_tensors()
        self.input = self.interpreter.get_input_details()[0]["index"]
        self.output = self.interpreter.get_output_details()[0]["index"]
        self.inputs = model.inputs(np.int32, self.steps)
        # The fixed shape pads, so what Keras says of the padded input is the truth here.
        self.reference = np.concatenate([built.predict(x, verbose=0) for x in self.inputs[:CHECKED]])
        operators = {detail["op_name"] for detail in self.interpreter._get_ops_details()}
        kind = "fused" if any("SEQUENCE_LSTM" in name for name in operators) else f"{len(self.interpreter._get_ops_details())} operators"
        self.version = f"ai-edge-litert {version('ai-edge-litert')}, {kind}, {len(flat)} bytes"

    def prepare(self, i):
        self.interpreter.reset_all_variables()  # the state of the text before
        self.interpreter.set_tensor(self.input, self.inputs[i])

    def call(self, i):
        self.interpreter.invoke()

    def result(self):
        return self.interpreter.get_tensor(self.output)[0]


def onnx_model(model, path):
    """The same graph by ONNX's own LSTM operator; any number of steps, batch 1."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    units = model.units
    order = np.concatenate([np.arange(units) + gate * units for gate in (0, 3, 1, 2)])  # Keras i f c o -> ONNX i o f c
    directions = 2 if model.pooled else 1
    constants, w, r, b = [], [], [], []
    for d in range(directions):
        kernel, recurrent, bias = model.tensors[1 + 3 * d:4 + 3 * d]
        w.append(kernel[:, order].T)
        r.append(recurrent[:, order].T)
        b.append(np.concatenate([bias[order], np.zeros(4 * units, np.float32)]))

    def constant(name, value):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))

    constant("table", model.tensors[0])
    constant("W", np.stack(w))
    constant("R", np.stack(r))
    constant("B", np.stack(b))
    constant("dense", model.tensors[-2])
    constant("bias", model.tensors[-1])
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"]),  # ids (T, 1) -> (T, 1, E)
        helper.make_node("LSTM", ["x", "W", "R", "B"], ["sequence", "last"], hidden_size=units, direction="bidirectional" if directions == 2 else "forward"),
    ]
    if model.pooled:
        constant("axis0", np.array([0], np.int64))
        constant("shape", np.array([1, -1], np.int64))
        nodes += [
            helper.make_node("ReduceMax", ["sequence", "axis0"], ["max"], keepdims=0),  # (2, 1, H): directions one after the other
            helper.make_node("ReduceMean", ["sequence", "axis0"], ["mean"], keepdims=0),
            helper.make_node("Reshape", ["max", "shape"], ["max1"]),
            helper.make_node("Reshape", ["mean", "shape"], ["mean1"]),
            helper.make_node("Concat", ["max1", "mean1"], ["features"], axis=1),
        ]
    else:
        constant("axis0", np.array([0], np.int64))
        nodes.append(helper.make_node("Squeeze", ["last", "axis0"], ["features"]))
    nodes.append(helper.make_node("Gemm", ["features", "dense", "bias"], ["logits"]))
    nodes.append(helper.make_node("Softmax" if model.activation == "softmax" else "Sigmoid", ["logits"], ["scores"]))
    graph = helper.make_graph(
        nodes, model.name,
        [helper.make_tensor_value_info("ids", TensorProto.INT32, [model.steps or "steps", 1])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, model.outputs])], constants)
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(built)
    onnx.save(built, path)


class OnnxRuntime(Contender):
    def __init__(self, model, is_int8):
        import onnxruntime
        self.version = f"onnxruntime {onnxruntime.__version__}"
        path = os.path.join(model.folder, model.name + ".onnx")
        onnx_model(model, path)
        if is_int8:
            from onnxruntime.quantization import QuantType, quantize_dynamic
            int8 = path.replace(".onnx", ".int8.onnx")
            quantize_dynamic(path, int8, weight_type=QuantType.QInt8)
            path = int8
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = [x.T.copy() for x in model.inputs(np.int32)]

    def call(self, i):
        return self.session.run(None, {"ids": self.inputs[i]})[0][0]


class FromText(Contender):
    """Text -> label around another contender: Keras' tokenizer in front, argmax behind."""

    def __init__(self, inner, model):
        from keras.src.legacy.preprocessing.text import Tokenizer
        self.inner = inner
        self.version = inner.version
        self.tokenizer = Tokenizer(num_words=model.rows)
        self.tokenizer.word_index = {word: i + 1 for i, word in enumerate(model.words)}
        self.texts = model.texts
        self.labels = model.labels
        self.steps = getattr(inner, "steps", None)
        self.is_column = isinstance(inner, OnnxRuntime)

    def call(self, i):
        ids = self.tokenizer.texts_to_sequences([self.texts[i]])[0]
        if self.steps:
            ids = ids[-self.steps:] + [0] * (self.steps - len(ids))
        elif not ids:
            ids = [0]
        x = np.array([ids], dtype=np.int32)
        self.inner.inputs[0] = x.T if self.is_column else x
        self.inner.prepare(0)
        scores = self.inner.call(0)
        if scores is None:
            scores = self.inner.result()
        self.scores = scores
        return self.labels[int(np.argmax(scores))]


class FastText(Contender):
    def __init__(self, model):
        import fasttext
        from importlib.metadata import version
        self.version = f"fasttext {version('fasttext-numpy2-wheel')}, dim 64, 2-grams, 25 epochs"
        fasttext.FastText.eprint = lambda *_: None
        self.texts = model.texts
        self.steps = None
        self.model = fasttext.train_supervised(model.fasttext, dim=64, wordNgrams=2, epoch=25, lr=0.5, thread=1, verbose=0)

    def call(self, i):
        return self.model.predict(self.texts[i])[0][0][len("__label__"):]


class Wasmtime:
    """Our testing.wasm under wasmtime, driven as ours.mjs drives it: many texts a call, so that the call itself costs nothing."""

    def __init__(self, model, form):
        import wasmtime
        self.version = f"wasmtime {importlib.metadata.version('wasmtime')}"
        store = wasmtime.Store()
        module = wasmtime.Module.from_file(store.engine, model.testing)
        kind = wasmtime.FuncType
        imports = [wasmtime.Func(store, x.type, lambda *_: 52 if x.type.results else None) for x in module.imports if isinstance(x.type, kind)]
        exports = wasmtime.Instance(store, module, imports).exports(store)
        memory = exports["memory"]
        with open(os.path.join(model.folder, f"{model.name}.{form}.elb"), "rb") as file:
            elb = file.read()
        memory.write(store, elb, exports["reserveModel"](store, len(elb)))
        assert exports["loadModel"](store, len(elb)) == 0 and exports["prepareReading"](store) == 0
        texts = [text.encode() for text in model.inputTexts]
        offsets = np.cumsum([0] + [len(text) for text in texts]).astype("<u4").tobytes()
        text_at, offsets_at = exports["allocate"](store, sum(map(len, texts)) + 16), exports["allocate"](store, len(offsets))
        memory.write(store, b"".join(texts), text_at)
        memory.write(store, offsets, offsets_at)
        loop = exports["loopTexts"]
        self.loop = lambda first, count, runs: loop(store, text_at, offsets_at + 4 * first, count, runs)
        self.count = len(texts)
        self.first = 0
        self.loop(0, self.count, 1)

    def measure(self, budget):
        clock = time.perf_counter_ns
        times, reads = [], []
        end = clock() + budget * 1_000_000
        while clock() < end:
            start = clock()
            self.loop(self.first, LOOP_TEXTS, 0)
            middle = clock()
            self.loop(self.first, LOOP_TEXTS, 1)
            times.append((clock() - middle) / LOOP_TEXTS / 1000)
            reads.append((middle - start) / LOOP_TEXTS / 1000)
            self.first = (self.first + LOOP_TEXTS) % (self.count - LOOP_TEXTS)
        return {"ok": True, "times": times, "reads": reads}


CONTENDERS = {
    "keras-predict": KerasPredict,
    "keras-function": KerasFunction,
    "litert-f32": lambda model: LiteRt(model, False, False),
    "litert-int8": lambda model: LiteRt(model, False, True),
    "litert-fused-f32": lambda model: LiteRt(model, True, False),
    "litert-fused-int8": lambda model: LiteRt(model, True, True),
    "onnx-f32": lambda model: OnnxRuntime(model, False),
    "onnx-int8": lambda model: OnnxRuntime(model, True),
    "fasttext": FastText,
    "wasmtime-f32": lambda model: Wasmtime(model, "f32"),
    "wasmtime-int8": lambda model: Wasmtime(model, "int8"),
    "wasmtime-fast": lambda model: Wasmtime(model, "fast"),
}


def load(request):
    model = Model(request["folder"], request["model"])
    contender = CONTENDERS[request["contender"]](model)
    if hasattr(model, "texts") and not isinstance(contender, (FastText, Wasmtime)):
        contender = FromText(contender, model)
    loaded[request["model"], request["contender"]] = (contender, len(model.ids))
    if isinstance(contender, Wasmtime):
        return {"ok": True, "version": contender.version}
    scores, labels = [], []
    count = len(model.ids) if hasattr(model, "texts") else CHECKED
    if request["contender"] == "keras-predict":
        count = CHECKED
    for i in range(count):
        contender.prepare(i)
        result = contender.call(i)
        if hasattr(model, "texts"):
            labels.append(result)
            if i < CHECKED and isinstance(contender, FromText):
                scores.append([float(x) for x in contender.scores])
        else:
            scores.append([float(x) for x in (contender.result() if result is None else result)])
    reference = getattr(getattr(contender, "inner", contender), "reference", None)
    return {
        "ok": True, "version": contender.version, "scores": scores, "labels": labels,
        **({} if reference is None else {"reference": reference.tolist()}),
    }


def measure(request):
    contender, count = loaded[request["model"], request["contender"]]
    if hasattr(contender, "measure"):
        return contender.measure(request["budget"])
    clock = time.perf_counter_ns
    times, spent, calls, i = [], 0, 0, request["first"]
    end = clock() + request["budget"] * 1_000_000
    while True:
        contender.prepare(i % count)
        start = clock()
        contender.call(i % count)
        spent += clock() - start
        calls += 1
        i += 1
        if spent >= RUN_NS:
            times.append(spent / calls / 1000)
            spent = calls = 0
            if clock() >= end:
                return {"ok": True, "times": times}


for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = load(request) if request["op"] == "load" else measure(request)
    except Exception as error:
        answer = {"ok": False, "error": (f"{type(error).__name__}: {error}".splitlines() or ["?"])[0][:200]}
    # JSON has no NaN.
    answers.write(json.dumps(answer).replace("NaN", "null") + "\n")
