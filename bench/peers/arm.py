"""A Python peer in the emulator: runs the first texts of a model, and prints the scores of the first one as JSON.

arm.py litert|onnx FILE IDS.json TEXTS REPEATS: every text is set once and computed REPEATS times, so the difference of two runs is that of
computing alone.
"""
import json
import sys

import numpy as np

kind, file, description, texts, repeats = sys.argv[1:]
with open(description, encoding="utf-8") as source:
    inputs = json.load(source)["ids"][: int(texts)]
scores = []


def litert():
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(model_path=file, num_threads=1)
    interpreter.allocate_tensors()
    given, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]["index"]
    steps = given["shape"][1]
    for ids in inputs:
        ids = ids[-steps:]
        interpreter.reset_all_variables()
        interpreter.set_tensor(given["index"], np.array([ids + [0] * (steps - len(ids))], dtype=np.int32))
        interpreter.invoke()
        scores.append(interpreter.get_tensor(answer)[0])
        for _ in range(1, int(repeats)):
            interpreter.invoke()


def onnx():
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    for ids in inputs:
        bound = session.io_binding()
        bound.bind_cpu_input("ids", np.array([ids], dtype=np.int32).T.copy())
        bound.bind_output("scores")
        for _ in range(int(repeats)):
            session.run_with_iobinding(bound)
        scores.append(bound.copy_outputs_to_cpu()[0][0])


{"litert": litert, "onnx": onnx}[kind]()
print(json.dumps([float(score) for score in scores[0]]))
