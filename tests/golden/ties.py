"""PyTorch's values and gradients where functions have kinks or ties, and where NaN or infinity enters.

Tensors of a case: `CASE/input/NAME`, `CASE/output` (also `CASE/indices`), `CASE/cotangent`, `CASE/grad/NAME`, with
gradients of sum(output * cotangent). Images are [N, H, W, C].
"""

import math

import torch
from torch.nn import functional as F

from store import nchw, nhwc, save

INF, NAN = math.inf, math.nan


class Cases:
    """Collects tensors and descriptions of all cases of one file."""

    def __init__(self):
        self.tensors, self.descriptions = {}, {}

    def add(self, case, description, inputs, function, image=False):
        """Evaluate `function(*inputs)` and store values and gradients; it may return (values, indices)."""
        leaves = {name: torch.tensor(value).requires_grad_() for name, value in inputs.items()}
        arguments = [nchw(x) if image else x for x in leaves.values()]
        output = function(*arguments)
        output, indices = output if isinstance(output, tuple) else (output, None)
        output = nhwc(output) if image else output
        cotangent = 1.0 + torch.arange(output.numel()).reshape(output.shape).to(output.dtype)
        output.backward(cotangent)
        self.descriptions[case] = description
        self.tensors |= {f"{case}/output": output, f"{case}/cotangent": cotangent}
        if indices is not None:
            self.tensors[f"{case}/indices"] = nhwc(indices) if image else indices
        for name, leaf in leaves.items():
            self.tensors |= {f"{case}/input/{name}": leaf, f"{case}/grad/{name}": leaf.grad}


def elementwise(cases):
    kinks = [-1.5, -0.0, 0.0, 2.0]
    cases.add("relu", {"op": "relu"}, {"x": kinks}, F.relu)
    cases.add("relu_infinite", {"op": "relu"}, {"x": [INF, -INF, 1.0]}, F.relu)
    # Cases with NaN fix values only: what PyTorch's gradient is there follows from comparisons that are false.
    cases.add("relu_nan", {"op": "relu", "judge": "output"}, {"x": [NAN, 1.0]}, F.relu)
    cases.add("abs", {"op": "abs"}, {"x": kinks}, torch.abs)
    cases.add("sign", {"op": "sign"}, {"x": kinks}, torch.sign)
    cases.add("clamp", {"op": "clamp", "min": -1.0, "max": 2.0}, {"x": [-1.5, -1.0, 0.5, 2.0, 2.5]}, lambda x: x.clamp(-1.0, 2.0))
    cases.add("clamp_nan", {"op": "clamp", "min": -1.0, "max": 2.0, "judge": "output"}, {"x": [NAN, INF, -INF]}, lambda x: x.clamp(-1.0, 2.0))
    pair = {"a": [1.0, 2.0, 3.0, 0.0, -4.0], "b": [1.0, 1.0, 4.0, -0.0, -4.0]}
    cases.add("maximum", {"op": "maximum"}, pair, torch.maximum)
    cases.add("minimum", {"op": "minimum"}, pair, torch.minimum)
    nans = {"a": [NAN, 1.0, NAN, INF], "b": [1.0, NAN, NAN, INF]}
    cases.add("maximum_nan", {"op": "maximum", "judge": "output"}, nans, torch.maximum)
    cases.add("minimum_nan", {"op": "minimum", "judge": "output"}, nans, torch.minimum)


def reductions(cases):
    rows = {"x": [[3.0, 1.0, 3.0, 3.0], [0.0, 0.0, 0.0, 0.0], [-1.0, -2.0, -1.0, -3.0]]}
    cases.add("max_index", {"op": "max with index", "dim": 1}, rows, lambda x: tuple(x.max(dim=1)))
    cases.add("min_index", {"op": "min with index", "dim": 1}, rows, lambda x: tuple(x.min(dim=1)))
    cases.add("max_index_dim0", {"op": "max with index", "dim": 0}, rows, lambda x: tuple(x.max(dim=0)))
    cases.add("amax", {"op": "reduce max", "dim": [1]}, rows, lambda x: x.amax(dim=1))
    cases.add("amin", {"op": "reduce min", "dim": [1]}, rows, lambda x: x.amin(dim=1))
    cases.add("amax_all", {"op": "reduce max", "dim": [0, 1]}, rows, lambda x: x.amax(dim=(0, 1)))
    special = {"x": [[1.0, NAN, 2.0], [-INF, -INF, -INF], [INF, 0.0, INF]]}
    cases.add("amax_special", {"op": "reduce max", "dim": [1], "judge": "output"}, special, lambda x: x.amax(dim=1))


def pools(cases):
    ties = torch.tensor([[1.0, 1.0, 2.0, 0.0], [1.0, 0.0, 2.0, 2.0], [5.0, 5.0, 5.0, 4.0], [5.0, 6.0, 6.0, 5.0]])
    image = torch.stack([ties, ties.flip(0)], dim=-1)[None].tolist()
    configurations = {
        "max_pool2d": {"kernel": [2, 2], "stride": [2, 2], "padding": [0, 0]},
        "max_pool2d_overlap": {"kernel": [3, 3], "stride": [1, 1], "padding": [0, 0]},
        "max_pool2d_padded": {"kernel": [3, 3], "stride": [2, 2], "padding": [1, 1]},
    }
    for case, c in configurations.items():
        pool = lambda x, c=c: F.max_pool2d(x, c["kernel"], c["stride"], c["padding"], return_indices=True)
        cases.add(case, {"op": "max_pool2d", **c}, {"x": image}, pool, image=True)
    zeros = torch.zeros(1, 4, 4, 1).tolist()
    c = configurations["max_pool2d_padded"]
    padded = lambda x: F.max_pool2d(x, c["kernel"], c["stride"], c["padding"], return_indices=True)
    cases.add("max_pool2d_padded_zeros", {"op": "max_pool2d", **c}, {"x": zeros}, padded, image=True)
    c = configurations["max_pool2d"]
    pool = lambda x: F.max_pool2d(x, c["kernel"], c["stride"], c["padding"], return_indices=True)
    infinite = torch.full((4, 4), -INF)
    infinite[0, 2], infinite[1, 3], infinite[2, 1], infinite[3, 0], infinite[3, 3] = 5.0, INF, INF, INF, 0.0
    cases.add("max_pool2d_infinite", {"op": "max_pool2d", **c}, {"x": infinite[None, :, :, None].tolist()}, pool, image=True)
    nan = torch.zeros(4, 4)
    nan[0, 0], nan[1, 3], nan[2, 0], nan[3, 1], nan[2, 2] = NAN, NAN, NAN, INF, INF
    cases.add("max_pool2d_nan", {"op": "max_pool2d", "judge": "output", **c}, {"x": nan[None, :, :, None].tolist()}, pool, image=True)


def make():
    cases = Cases()
    elementwise(cases)
    reductions(cases)
    pools(cases)
    note = "indices of pools count h * W + w inside one channel plane; cases with judge=output fix values, not gradients"
    save("ties", cases.tensors, {"cases": cases.descriptions, "note": note})
