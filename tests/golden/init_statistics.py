"""Standard deviations and bounds of PyTorch's and Keras's initialisers, from their documented formulas.

PyTorch's entries are checked here against samples of its own layers; Keras's stand on its documentation alone.
"""

import json
import math

import torch
from torch import nn

from store import FOLDER, versions

# Standard deviation of a unit normal cut off at two standard deviations: sqrt(1 - 4 phi(2) / (2 Phi(2) - 1)).
TRUNCATED_STD = math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))


def uniform(bound):
    return {"distribution": "uniform", "bound": bound, "std": bound / math.sqrt(3)}


def normal(std):
    return {"distribution": "normal", "std": std}


def truncated(std):
    """Keras scales the untruncated normal up so that the values kept have standard deviation `std`."""
    return {"distribution": "truncated_normal", "bound": 2 * std / TRUNCATED_STD, "std": std}


def constant(value):
    return {"distribution": "constant", "value": value}


def pytorch():
    """Per layer: the shape and statistics of each parameter of PyTorch's default initialisation."""
    return {
        "Linear 300 200": {"weight": {"shape": [200, 300], **uniform(1 / math.sqrt(300))}, "bias": {"shape": [200], **uniform(1 / math.sqrt(300))}},
        "Conv2d 32 64 kernel 3 groups 2": {
            "weight": {"shape": [64, 16, 3, 3], **uniform(1 / math.sqrt(16 * 9))},
            "bias": {"shape": [64], **uniform(1 / math.sqrt(16 * 9))},
        },
        "Embedding 500 40": {"weight": {"shape": [500, 40], **normal(1.0)}},
        "LSTM 50 64": {
            "weight_ih_l0": {"shape": [256, 50], **uniform(1 / math.sqrt(64))},
            "weight_hh_l0": {"shape": [256, 64], **uniform(1 / math.sqrt(64))},
            "bias_ih_l0": {"shape": [256], **uniform(1 / math.sqrt(64))},
            "bias_hh_l0": {"shape": [256], **uniform(1 / math.sqrt(64))},
        },
        "BatchNorm 16": {
            "weight": {"shape": [16], **constant(1.0)},
            "bias": {"shape": [16], **constant(0.0)},
            "running_mean": {"shape": [16], **constant(0.0)},
            "running_var": {"shape": [16], **constant(1.0)},
        },
        "LayerNorm 16": {"weight": {"shape": [16], **constant(1.0)}, "bias": {"shape": [16], **constant(0.0)}},
    }


def check_pytorch(table):
    """PyTorch's own samples must obey the formulas: std within 5 %, no value outside the bound."""
    modules = {
        "Linear 300 200": nn.Linear(300, 200),
        "Conv2d 32 64 kernel 3 groups 2": nn.Conv2d(32, 64, 3, groups=2),
        "Embedding 500 40": nn.Embedding(500, 40),
        "LSTM 50 64": nn.LSTM(50, 64),
        "BatchNorm 16": nn.BatchNorm2d(16),
        "LayerNorm 16": nn.LayerNorm(16),
    }
    for layer, entries in table.items():
        for name, expected in entries.items():
            sample = modules[layer].state_dict()[name]
            assert list(sample.shape) == expected["shape"], (layer, name)
            if expected["distribution"] == "constant":
                assert (sample == expected["value"]).all(), (layer, name)
                continue
            assert sample.abs().max() <= expected.get("bound", math.inf) * (1 + 1e-6), (layer, name)
            # Few samples: the standard error of a uniform sample's std is about 0.45 / sqrt(n).
            assert abs(sample.std() / expected["std"] - 1) < max(0.05, 2.0 / math.sqrt(sample.numel())), (layer, name)


def fans(shape):
    """Keras's fan-in and fan-out of a kernel [receptive field…, in, out]."""
    field = math.prod(shape[:-2])
    return shape[-2] * field, shape[-1] * field


def keras():
    """Per initialiser and kernel shape (Keras's layout: receptive field, in, out)."""
    formulas = {
        "glorot_uniform": lambda i, o: uniform(math.sqrt(6 / (i + o))),
        "glorot_normal": lambda i, o: truncated(math.sqrt(2 / (i + o))),
        "he_uniform": lambda i, o: uniform(math.sqrt(6 / i)),
        "he_normal": lambda i, o: truncated(math.sqrt(2 / i)),
        "lecun_uniform": lambda i, o: uniform(math.sqrt(3 / i)),
        "lecun_normal": lambda i, o: truncated(math.sqrt(1 / i)),
    }
    table = {}
    for name, formula in formulas.items():
        for shape in ([300, 200], [3, 3, 16, 64]):
            fan_in, fan_out = fans(shape)
            key = f"{name} {'x'.join(map(str, shape))}"
            table[key] = {"kernel_shape": shape, "fan_in": fan_in, "fan_out": fan_out, **formula(fan_in, fan_out)}
    table["truncated_normal stddev 0.05"] = {"distribution": "truncated_normal", "bound": 0.1, "std": 0.05 * TRUNCATED_STD}
    table["random_normal stddev 0.05"] = normal(0.05)
    table["random_uniform"] = uniform(0.05)
    table["orthogonal 300x200"] = {
        "distribution": "orthogonal",
        "kernel_shape": [300, 200],
        "property": "columns orthonormal times gain (rows, where there are fewer rows)",
        "std": 1 / math.sqrt(300),
    }
    return table


def keras_defaults():
    return {
        "Dense": {"kernel": "glorot_uniform", "bias": "zeros"},
        "Conv2D": {"kernel": "glorot_uniform", "bias": "zeros"},
        "Embedding": {"embeddings": "random_uniform in [-0.05, 0.05]"},
        "LSTM": {"kernel": "glorot_uniform", "recurrent_kernel": "orthogonal", "bias": "zeros, forget gate 1"},
        "BatchNormalization": {"gamma": "ones", "beta": "zeros", "moving_mean": "zeros", "moving_variance": "ones", "epsilon": 1e-3, "momentum": 0.99},
    }


def make():
    torch.manual_seed(300)
    table = pytorch()
    check_pytorch(table)
    document = {
        "versions": versions(),
        "truncated_normal_std_at_two_sigma": TRUNCATED_STD,
        "pytorch_defaults": table,
        "keras_initialisers": keras(),
        "keras_defaults": keras_defaults(),
    }
    (FOLDER / "init_statistics.json").write_text(json.dumps(document, indent=1) + "\n")
    print("init_statistics.json")
