#!/usr/bin/env python3
"""Writes a.onnx and b.onnx, the two networks of the comparison. Needs only onnx==1.19.1.

The weights are not trained: weight i of layer l is a hash of (l, i), so that the checker can compute them with code of its
own, without a file. Only the size of the networks matters, and that their scores spread around 0.5.
"""
import math
import struct
from pathlib import Path

from onnx import TensorProto, checker, helper

FEATURES = 16
# The divisors of the features: about their largest usual values.
SCALE = [4, 8, 64, 2, 4, 16, 2, 4, 8, 2, 2, 4, 400, 15_000, 18, 24]
NETWORKS = {"a": [FEATURES, 10, 1], "b": [FEATURES, 256, 128, 1]}
MASK = (1 << 64) - 1


def unit(layer, index):
    """SplitMix64 of the place, as a number from -1 to 1."""
    x = ((layer << 32 | index) * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & MASK
    return ((x ^ x >> 31) >> 11) / 2.0**52 - 1.0


def layer(number, rows, columns):
    """Weights [rows, columns] and biases [columns]."""
    spread = math.sqrt(6.0 / rows)
    weights = [unit(number, i) * spread / (SCALE[i // columns] if number == 0 else 1) for i in range(rows * columns)]
    biases = [unit(number, rows * columns + i) * 0.25 for i in range(columns)]
    return weights, biases


def tensor(name, shape, values):
    return helper.make_tensor(name, TensorProto.FLOAT, shape, struct.pack(f"<{len(values)}f", *values), raw=True)


def network(name, sizes):
    nodes, weights, flow = [], [], "input"
    for number, (rows, columns) in enumerate(zip(sizes, sizes[1:])):
        last = number == len(sizes) - 2
        w, b = layer(number, rows, columns)
        weights += [tensor(f"w{number}", [rows, columns], w), tensor(f"b{number}", [columns], b)]
        nodes.append(helper.make_node("Gemm", [flow, f"w{number}", f"b{number}"], [f"sum{number}"]))
        flow = "score" if last else f"layer{number}"
        nodes.append(helper.make_node("Sigmoid" if last else "Relu", [f"sum{number}"], [flow]))
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["rows", FEATURES])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows", 1])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="benches/peers")
    model.ir_version = 8
    checker.check_model(model)
    return model.SerializeToString()


if __name__ == "__main__":
    for name, sizes in NETWORKS.items():
        Path(__file__).with_name(f"{name}.onnx").write_bytes(network(name, sizes))
