"""First weights and one batch of a workload, bit for bit the same wherever they are made.

    python bench/cpu/inputs.py target/bench                 (w1/weights.safetensors, w1/data.npz and so on)
    python bench/cpu/inputs.py target/bench w1 w3

Number i = 0, 1, … of the sequence with a seed is u = (z >> 40) / 2^24, in [0, 1) and exact in f32, where z is the finaliser of splitmix64:

    z = (seed << 32) + i + 1
    z *= 0x9E3779B97F4A7C15;  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;  z = (z ^ z >> 27) * 0x94D049BB133111EB;  z ^= z >> 31

all modulo 2^64. The parameters of a network are numbered from 0 in the order of its layers, and of each layer in the order of `Network` below;
number k has seed k + 1, row-major in PyTorch's layout ([out, in], [out, in / groups, height, width], of transposed convolutions [in, out,
height, width], gates i, f, g, o or r, z, n). Weights are
(2u - 1) / sqrt(product of all extents but the first), embeddings 0.1 (2u - 1), biases 0, factors of norms 1. Biases and factors have a number
too, though none is drawn for them. Running means are 0, running variances 1.

Inputs have seed 1000 where they are real: 2u - 1, or u where the input is the target too; row-major as [rows, channels, height, width] and
written channel-last. Tokens, and codes of columns, are floor(u · n) with seed 1001, targets floor(u · n) with seed 1002.
"""

import argparse
import tomllib
from math import prod, sqrt
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

HERE = Path(__file__).parent
WORKLOADS = sorted((path.stem for path in HERE.glob("w*.toml")), key=lambda stem: (len(stem), stem))
SEED_REAL, SEED_TOKENS, SEED_TARGETS = 1000, 1001, 1002


def uniform(seed, *shape):
    """Numbers in [0, 1)."""
    z = np.arange(1, prod(shape) + 1, dtype=np.uint64) + np.uint64(seed << 32)
    z *= np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return ((z >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)).reshape(shape)


def below(seed, n, *shape):
    """Whole numbers from 0 to below n."""
    return np.floor(uniform(seed, *shape) * np.float32(n)).astype(np.int32)


class Network:
    """Parameters and statistics by backprop's names, drawn layer by layer; extents of inputs are followed through the network."""

    def __init__(self, config, row):
        self.tensors, self.number = {}, 0
        self.output = self.layers("", config["layers"], row)
        """Shape of one row of the network's output."""

    def parameter(self, name, shape, value):
        """The next parameter, drawn between -value and value."""
        self.number += 1
        self.tensors[name] = (2 * uniform(self.number, *shape) - 1) * np.float32(value)

    def constant(self, name, shape, value, numbered=True):
        self.number += numbered
        self.tensors[name] = np.full(shape, value, np.float32)

    def weight(self, name, *shape):
        self.parameter(name, shape, 1 / sqrt(prod(shape[1:])))

    def bias(self, name, extent):
        self.constant(name, extent, 0)

    def norm(self, name, features):
        self.constant(name + "weight", features, 1)
        self.bias(name + "bias", features)

    def linear(self, name, inputs, outputs, bias=True):
        self.weight(name + "weight", outputs, inputs)
        if bias:
            self.bias(name + "bias", outputs)

    def recurrence(self, name, gates, inputs, spec):
        """One direction after the other; how many numbers stand for a step."""
        hidden, directions = spec["hidden_size"], ("", "_reverse") if spec.get("bidirectional", False) else ("",)
        for direction in directions:
            self.weight(f"{name}weight_ih_l0{direction}", gates * hidden, inputs)
            self.weight(f"{name}weight_hh_l0{direction}", gates * hidden, hidden)
            self.bias(f"{name}bias_ih_l0{direction}", gates * hidden)
            self.bias(f"{name}bias_hh_l0{direction}", gates * hidden)
        return len(directions) * hidden

    def transformer_block(self, name, features, hidden):
        self.norm(name + "norm1.", features)
        self.weight(name + "self_attn.in_proj_weight", 3 * features, features)
        self.bias(name + "self_attn.in_proj_bias", 3 * features)
        self.linear(name + "self_attn.out_proj.", features, features)
        self.norm(name + "norm2.", features)
        self.linear(name + "linear1.", features, hidden)
        self.linear(name + "linear2.", hidden, features)

    def convolution(self, name, row, spec):
        *sizes, channels = row
        kernel, outputs, padding = spec["kernel_size"], spec["out_channels"], spec.get("padding", 0)
        self.weight(name + "weight", outputs, channels // spec.get("groups", 1), *[kernel] * len(sizes))
        if spec.get("bias", True):
            self.bias(name + "bias", outputs)
        covers = spec.get("dilation", 1) * (kernel - 1) + 1
        return *((size + 2 * padding - covers) // spec.get("stride", 1) + 1 for size in sizes), outputs

    def conv_transpose2d(self, name, row, spec):
        """Without padding."""
        *sizes, channels = row
        kernel, outputs = spec["kernel_size"], spec["out_channels"]
        self.weight(name + "weight", channels, outputs, kernel, kernel)
        self.bias(name + "bias", outputs)
        return *((size - 1) * spec["stride"] + kernel for size in sizes), outputs

    def concat(self, name, row, branches):
        rows = [self.layers(f"{name}branches.{i}.", branch, row) for i, branch in enumerate(branches)]
        return *row[:-1], sum(after[-1] for after in rows)

    def layers(self, prefix, specs, row):
        """A list of layers; the shape of a row after them."""
        for number, spec in enumerate(specs):
            row = self.layer(f"{prefix}layers.{spec.get('name', number)}.", spec, row)
        return row

    def layer(self, name, spec, row):
        """One layer; the shape of a row after it."""
        match spec["type"]:
            case "linear":
                self.linear(name, row[-1], spec["out_features"], spec.get("bias", True))
                return (*row[:-1], spec["out_features"])
            case "conv1d" | "conv2d":
                return self.convolution(name, row, spec)
            case "conv_transpose2d":
                return self.conv_transpose2d(name, row, spec)
            case "batch_norm":
                self.norm(name, row[-1])
                self.constant(name + "running_mean", row[-1], 0, numbered=False)
                self.constant(name + "running_var", row[-1], 1, numbered=False)
            case "layer_norm":
                self.norm(name, row[-1])
            case "embedding":
                self.parameter(name + "weight", (spec["num_embeddings"], spec["embedding_dim"]), 0.1)
                return (*row, spec["embedding_dim"])
            case "positional_embedding":
                self.parameter(name + "weight", (spec["max_len"], row[-1]), 0.1)
            case "columns_embedding":
                width, tables = spec["embedding_dim"], spec["num_embeddings"]
                for i, rows in enumerate(tables):
                    self.parameter(f"{name}columns.{i}.weight", (rows, width), 0.1)
                return (*row[:-1], len(tables) * width)
            case "lstm":
                return (*row[:-1], self.recurrence(name, 4, row[-1], spec))
            case "gru":
                return (*row[:-1], self.recurrence(name, 3, row[-1], spec))
            case "transformer_block":
                self.transformer_block(name, row[-1], spec["dim_feedforward"])
            case "residual":
                after = self.layers(name + "body.", spec["body"], row)
                self.layers(name + "shortcut.", spec.get("shortcut", []), row)
                return after
            case "concat":
                return self.concat(name, row, spec["branches"])
            case "repeat":
                for i in range(spec["times"]):
                    row = self.layers(f"{name}layers.{i}.", spec["body"], row)
            case "max_pool2d":
                return (row[0] // spec["kernel_size"], row[1] // spec["kernel_size"], row[2])
            case "global_avg_pool":
                return row[-1:]
            case "flatten":
                return (prod(row),)
            case "reshape":
                return tuple(spec["shape"])
            case "relu" | "sigmoid" | "tanh":
                pass
            case other:
                raise ValueError(f"{name}: no first values are known for a layer of type {other}")
        return row


def batch_of(config):
    """The batch: x, y (the input itself where it is the target), and the shape of one row of x."""
    data, rows, first = config["data"], config["train"]["batch_size"], config["layers"][0]
    if first["type"] == "columns_embedding":
        tables = np.float32(first["num_embeddings"])
        codes = np.floor(uniform(SEED_TOKENS, rows, len(tables)) * tables)
        return codes, below(SEED_TARGETS, data["classes"], rows), codes.shape[1:]
    if data["source"] == "text":
        vocabulary, tokens = config["layers"][0]["num_embeddings"], (rows, data["sequence"])
        return below(SEED_TOKENS, vocabulary, *tokens), below(SEED_TARGETS, vocabulary, *tokens), tokens[1:]
    if data["source"] == "images":
        drawn = uniform(SEED_REAL, rows, data["channels"], data["height"], data["width"]).transpose(0, 2, 3, 1)
    else:
        drawn = uniform(SEED_REAL, rows, data["features"])
    if data.get("target"):
        return drawn, drawn, drawn.shape[1:]
    return 2 * drawn - 1, below(SEED_TARGETS, data["classes"], rows), drawn.shape[1:]


def write(workload, folder):
    """The files of one workload."""
    with open(HERE / f"{workload}.toml", "rb") as file:
        config = tomllib.load(file)
    x, y, row = batch_of(config)
    network = Network(config, row)
    if y is x:
        y = x.reshape(len(x), *network.output)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(network.tensors, folder / "weights.safetensors")
    np.savez(folder / "data.npz", x=np.ascontiguousarray(x)[None], y=np.ascontiguousarray(y)[None])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder; one is made in it for each workload")
    parser.add_argument("workloads", nargs="*", help=f"of {', '.join(WORKLOADS)}; all of them by default")
    arguments = parser.parse_args()
    for workload in arguments.workloads or WORKLOADS:
        write(workload, arguments.out / workload)


if __name__ == "__main__":
    main()
