"""Outputs and gradients of layers over space, of normalisations, activations and combinators.

Tensors of a case: `CASE/input/x`, `CASE/param/NAME`, `CASE/state/NAME`, `CASE/output`, `CASE/cotangent`, `CASE/grad/NAME` for the input
and parameters, with gradients of sum(output * cotangent). Inputs and outputs are channel-last; parameters have PyTorch's names and
layout. A case's description is the layer's table as backprop reads it.
"""

import torch
from torch import nn
from torch.nn import functional as F

from networks import Sequential
from store import save

tensors, descriptions = {}, {}


def first(x):
    """Channel-last to channel-first."""
    return x.movedim(-1, 1)


def last(x):
    """Channel-first to channel-last."""
    return x.movedim(1, -1)


def record(case, layer, call, x, parameters=(), evaluate=False):
    """Evaluate `call(x)`, weigh its output by a fixed random cotangent and store the gradients."""
    assert case not in descriptions, case
    x = x.clone().requires_grad_(x.is_floating_point())
    parameters = dict(parameters)
    output = call(x).contiguous()
    cotangent = torch.randn(output.shape)
    output.backward(cotangent)
    descriptions[case] = {"layer": layer, "training": not evaluate}
    tensors[f"{case}/input/x"], tensors[f"{case}/output"], tensors[f"{case}/cotangent"] = x, output, cotangent
    if x.grad is not None:
        tensors[f"{case}/grad/x"] = x.grad
    elif x.is_floating_point():
        # Codes are not differentiated.
        tensors[f"{case}/grad/x"] = torch.zeros_like(x)
    for name, parameter in parameters.items():
        tensors[f"{case}/param/{name}"], tensors[f"{case}/grad/{name}"] = parameter, parameter.grad


def spatial(case, layer, module, shape):
    """Record a module of channel-first inputs for a random channel-last input."""
    record(case, layer, lambda x: last(module(first(x))), torch.randn(shape), module.named_parameters())


SHAPES = {1: (2, 9), 2: (1, 6, 7), 3: (1, 4, 3, 5)}


def convolutions():
    configurations = [
        ("plain", 3, dict(out_channels=4, kernel_size=3)),
        ("strided", 4, dict(out_channels=6, kernel_size=3, stride=2, padding=1, groups=2)),
        ("dilated", 2, dict(out_channels=3, kernel_size=2, dilation=2, padding=2, bias=False)),
    ]
    for n, module in ((1, nn.Conv1d), (3, nn.Conv3d)):
        for name, channels, c in configurations:
            spatial(f"conv{n}d_{name}", {"type": f"conv{n}d", **c}, module(channels, **c), (*SHAPES[n], channels))
    same = dict(out_channels=3, kernel_size=4, padding="same")
    spatial("conv1d_same", {"type": "conv1d", **same}, nn.Conv1d(2, **same), (2, 6, 2))
    uneven = dict(out_channels=2, kernel_size=[1, 2, 3], stride=[2, 1, 2], padding=[0, 1, 2], dilation=[1, 3, 1])
    spatial("conv3d_uneven", {"type": "conv3d", **uneven}, nn.Conv3d(3, **uneven), (2, 3, 5, 4, 3))


def transposed_convolutions():
    configurations = [
        ("plain", 3, dict(out_channels=4, kernel_size=3)),
        ("strided", 3, dict(out_channels=2, kernel_size=3, stride=2, padding=1, output_padding=1)),
        ("dilated", 4, dict(out_channels=6, kernel_size=3, stride=2, dilation=2, padding=2, output_padding=1, groups=2)),
        # Kernels that leave gaps, which hold the bias alone.
        ("gaps", 2, dict(out_channels=3, kernel_size=2, stride=3)),
        # More is cut off than the kernel adds.
        ("cut", 2, dict(out_channels=2, kernel_size=2, padding=2, bias=False)),
        ("depthwise", 4, dict(out_channels=8, kernel_size=3, stride=2, padding=1, groups=4)),
    ]
    sizes = {1: (2, 6), 2: (2, 4, 5), 3: (1, 4, 4, 4)}
    for n, module in ((1, nn.ConvTranspose1d), (2, nn.ConvTranspose2d), (3, nn.ConvTranspose3d)):
        for name, channels, c in configurations:
            spatial(f"conv_transpose{n}d_{name}", {"type": f"conv_transpose{n}d", **c}, module(channels, **c), (*sizes[n], channels))
    uneven = dict(out_channels=2, kernel_size=[2, 4], stride=[3, 1], padding=[1, 0], output_padding=[2, 1], dilation=[1, 2])
    spatial("conv_transpose2d_uneven", {"type": "conv_transpose2d", **uneven}, nn.ConvTranspose2d(3, **uneven), (2, 3, 4, 3))


def depthwise():
    for case, channels, multiplier, c in (
        ("plain", 5, 1, dict(kernel_size=3, padding=1)),
        ("multiplied", 3, 2, dict(kernel_size=[2, 3], stride=[2, 1], dilation=[1, 2])),
        ("one_channel", 1, 3, dict(kernel_size=2, bias=False)),
    ):
        module = nn.Conv2d(channels, channels * multiplier, groups=channels, **c)
        spatial(f"depthwise_{case}", {"type": "depthwise_conv2d", "multiplier": multiplier, **c}, module, (2, 6, 7, channels))


def pools():
    maxima = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
    means = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
    for n in (1, 2, 3):
        shape = (*SHAPES[n], 3)
        for name, c in (
            ("plain", dict(kernel_size=2)),
            ("padded", dict(kernel_size=3, stride=2, padding=1)),
            ("ceil", dict(kernel_size=2, stride=2, ceil_mode=True)),
            # With a padding that a last window may not start in.
            ("ceil_padded", dict(kernel_size=2, stride=3, padding=1, ceil_mode=True)),
            ("dilated", dict(kernel_size=2, stride=1, dilation=2, padding=1)),
        ):
            spatial(f"max_pool{n}d_{name}", {"type": f"max_pool{n}d", **c}, maxima[n](**c), shape)
        for name, c in (
            ("plain", dict(kernel_size=2)),
            ("padded", dict(kernel_size=3, stride=2, padding=1)),
            ("ceil", dict(kernel_size=2, stride=2, ceil_mode=True)),
            ("ceil_padded", dict(kernel_size=3, stride=2, padding=1, ceil_mode=True)),
            ("ceil_uncounted", dict(kernel_size=3, stride=2, padding=1, ceil_mode=True, count_include_pad=False)),
            ("uncounted", dict(kernel_size=2, stride=1, padding=1, count_include_pad=False)),
        ):
            spatial(f"avg_pool{n}d_{name}", {"type": f"avg_pool{n}d", **c}, means[n](**c), shape)
        # Small whole numbers: many windows hold their maximum several times.
        ties = torch.randint(0, 3, shape).float()
        module = maxima[n](3, stride=1)
        record(f"max_pool{n}d_ties", {"type": f"max_pool{n}d", "kernel_size": 3, "stride": 1}, lambda x: last(module(first(x))), ties)


def pools_of_given_results():
    for size, extent in ((3, 9), (4, 7), (5, 3), (1, 6)):
        layer = {"type": "adaptive_avg_pool1d", "output_size": size}
        spatial(f"adaptive_avg_pool1d_{extent}_to_{size}", layer, nn.AdaptiveAvgPool1d(size), (2, extent, 3))
    for case, size, shape in (("even", [2, 3], (2, 4, 9)), ("uneven", [3, 2], (2, 7, 5)), ("more", [5, 4], (1, 3, 6)), ("one", [1, 1], (2, 3, 5))):
        for kind, module in (("avg", nn.AdaptiveAvgPool2d(size)), ("max", nn.AdaptiveMaxPool2d(size))):
            layer = {"type": f"adaptive_{kind}_pool2d", "output_size": size}
            spatial(f"adaptive_{kind}_pool2d_{case}", layer, module, (*shape, 2))
        ties = torch.randint(0, 3, (*shape, 2)).float()
        layer = {"type": "adaptive_max_pool2d", "output_size": size}
        record(f"adaptive_max_pool2d_{case}_ties", layer, lambda x: last(nn.AdaptiveMaxPool2d(size)(first(x))), ties)
    for n in (1, 2, 3):
        x, space = torch.randn(*SHAPES[n], 3), tuple(range(1, n + 1))
        record(f"global_avg_pool_{n}d", {"type": "global_avg_pool"}, lambda v: v.mean(space), x)
        record(f"global_max_pool_{n}d", {"type": "global_max_pool"}, lambda v: v.amax(space), x)
    record("global_max_pool_ties", {"type": "global_max_pool"}, lambda v: v.amax((1, 2)), torch.randint(0, 3, (2, 3, 4, 2)).float())


def scattered(module):
    """Weights and biases that are not the first ones and zeros."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(0.5, 1.5)
    return module


def norms():
    for case, groups, channels, space, c in (
        ("2d", 2, 6, (4, 5), {}),
        ("1d", 3, 6, (7,), dict(eps=1e-3)),
        ("3d", 1, 4, (2, 3, 3), {}),
        ("rows", 2, 8, (), {}),
        ("plain", 4, 4, (3, 3), dict(affine=False)),
    ):
        layer = {"type": "group_norm", "num_groups": groups, **c}
        spatial(f"group_norm_{case}", layer, scattered(nn.GroupNorm(groups, channels, **c)), (3, *space, channels))
    for case, module, space in (("1d", nn.InstanceNorm1d, (7,)), ("2d", nn.InstanceNorm2d, (3, 4)), ("3d", nn.InstanceNorm3d, (2, 3, 2))):
        spatial(f"instance_norm_{case}", {"type": "instance_norm"}, module(5), (3, *space, 5))
    affine = scattered(nn.InstanceNorm2d(4, affine=True, eps=1e-2))
    spatial("instance_norm_affine", {"type": "instance_norm", "affine": True, "eps": 1e-2}, affine, (3, 3, 4, 4))
    for case, shape, c in (("plain", [6], {}), ("two_axes", [3, 6], dict(eps=1e-3)), ("no_weight", [6], dict(elementwise_affine=False))):
        layer = {"type": "rms_norm", "normalized_shape": shape, **c}
        module = scattered(nn.RMSNorm(shape, **c))
        record(f"rms_norm_{case}", layer, module, torch.randn(4, 3, 6) * 2, module.named_parameters())
    module = nn.LayerNorm([5], elementwise_affine=False)
    record("layer_norm_no_weight", {"type": "layer_norm", "elementwise_affine": False}, module, torch.randn(4, 5))
    for evaluate in (False, True):
        module = scattered(nn.BatchNorm2d(3, track_running_stats=False)).train(not evaluate)
        layer = {"type": "batch_norm", "track_running_stats": False}
        case = "batch_norm_untracked" + ("_eval" if evaluate else "")
        record(case, layer, lambda x: last(module(first(x))), torch.randn(3, 4, 2, 3), module.named_parameters(), evaluate)


def activations():
    # With the kinks of every function, and far out.
    x = torch.tensor([-1e4, -100.0, -30.0, -6.0, -3.0, -2.5, -1.0, -0.5, -1e-4, 0.0, 1e-4, 0.25, 1.0, 1.5, 2.0, 3.0, 5.5, 6.0, 30.0, 100.0, 1e4])
    for case, layer, function in (
        ("leaky_relu", {"type": "leaky_relu"}, F.leaky_relu),
        ("leaky_relu_steep", {"type": "leaky_relu", "negative_slope": 0.3}, lambda v: F.leaky_relu(v, 0.3)),
        ("elu", {"type": "elu"}, F.elu),
        ("elu_alpha", {"type": "elu", "alpha": 0.7}, lambda v: F.elu(v, 0.7)),
        ("celu", {"type": "celu"}, F.celu),
        ("celu_alpha", {"type": "celu", "alpha": 1.7}, lambda v: F.celu(v, 1.7)),
        ("selu", {"type": "selu"}, F.selu),
        ("silu", {"type": "silu"}, F.silu),
        ("mish", {"type": "mish"}, F.mish),
        ("softplus", {"type": "softplus"}, F.softplus),
        ("softplus_sharp", {"type": "softplus", "beta": 2.0, "threshold": 3.0}, lambda v: F.softplus(v, 2.0, 3.0)),
        ("softsign", {"type": "softsign"}, F.softsign),
        ("hardtanh", {"type": "hardtanh"}, F.hardtanh),
        ("hardtanh_bounds", {"type": "hardtanh", "min_val": -0.5, "max_val": 3.0}, lambda v: F.hardtanh(v, -0.5, 3.0)),
        ("relu6", {"type": "relu6"}, F.relu6),
        ("hardsigmoid", {"type": "hardsigmoid"}, F.hardsigmoid),
        ("hardswish", {"type": "hardswish"}, F.hardswish),
    ):
        # Elements one by one in a scale of their own: the far ones would hide the others.
        near, far = x[x.abs() <= 6.0], x[x.abs() > 6.0]
        record(case, layer, function, near)
        record(f"{case}_far", layer, function, far)
    rows = torch.randn(3, 4, 6)
    record("glu", {"type": "glu"}, F.glu, rows)
    record("glu_axis1", {"type": "glu", "dim": 1}, lambda v: F.glu(v, 1), rows)
    kinked = torch.randn(2, 3, 4)
    kinked[0, 0, 1] = 0.0
    module = nn.PReLU()
    record("prelu", {"type": "prelu"}, module, kinked, module.named_parameters())
    each = scattered(nn.PReLU(4))
    record("prelu_per_channel", {"type": "prelu", "per_channel": True}, lambda v: last(each(first(v))), kinked, each.named_parameters())


class Branches(nn.Module):
    """Sequential branches on one input, combined."""

    def __init__(self, combine, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.combine = combine

    def forward(self, x):
        return self.combine([branch(x) for branch in self.branches])


def total(results):
    return sum(results[1:], results[0])


def product(results):
    return results[0] * results[1] * results[2] if len(results) == 3 else results[0] * results[1]


def combinators():
    def table(out, **c):
        return {"type": "linear", "out_features": out, **c}

    x = torch.randn(3, 4)
    tanh = {"type": "tanh"}
    lists = [[table(2), tanh], [], [table(3, bias=False)]]
    module = Branches(lambda r: torch.cat(r, -1), Sequential(nn.Linear(4, 2), nn.Tanh()), Sequential(), Sequential(nn.Linear(4, 3, bias=False)))
    record("concat", {"type": "concat", "branches": lists}, module, x, module.named_parameters())
    convolutions = [[{"type": "conv2d", "out_channels": 2, "kernel_size": [2, 1]}], [{"type": "conv2d", "out_channels": 2, "kernel_size": [1, 1]}]]
    module = Branches(lambda r: torch.cat(r, 2), Sequential(nn.Conv2d(3, 2, [2, 1])), Sequential(nn.Conv2d(3, 2, 1)))
    spatial("concat_rows", {"type": "concat", "dim": 1, "branches": convolutions}, module, (2, 4, 3, 3))
    lists = [[table(4), tanh], [], [table(4, bias=False)]]
    module = lambda how: Branches(how, Sequential(nn.Linear(4, 4), nn.Tanh()), Sequential(), Sequential(nn.Linear(4, 4, bias=False)))
    for case, how in (("add", total), ("multiply", product)):
        m = module(how)
        record(case, {"type": case, "branches": lists}, m, x, m.named_parameters())
    m = Sequential(*(Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(3)))
    record("repeat", {"type": "repeat", "times": 3, "body": [table(4), tanh]}, m, x, m.named_parameters())


def arrangements():
    x = torch.randn(2, 3, 4, 5)
    record("select_range", {"type": "select", "start": 1, "len": 3}, lambda v: v[..., 1:4], x)
    record("select_rest", {"type": "select", "start": 2, "dim": 1}, lambda v: v[:, 2:], x)
    record("select_indices", {"type": "select", "indices": [4, 0, 4]}, lambda v: v[..., [4, 0, 4]], x)
    record("select_indices_inner", {"type": "select", "indices": [2, 1], "dim": -2}, lambda v: v[:, :, [2, 1]], x)
    record("reshape", {"type": "reshape", "shape": [6, -1]}, lambda v: v.reshape(2, 6, 10), x)
    record("permute", {"type": "permute", "dims": [3, 1, 2]}, lambda v: v.permute(0, 3, 1, 2), x)
    spatial("zero_pad2d", {"type": "zero_pad2d", "padding": 2}, nn.ZeroPad2d(2), x.shape)
    spatial("zero_pad2d_each", {"type": "zero_pad2d", "padding": [1, 0, 2, 3]}, nn.ZeroPad2d([1, 0, 2, 3]), x.shape)
    for case, scale, shape in (("twice", 2, (2, 3, 4, 2)), ("uneven", [3, 1], (1, 2, 3, 2)), ("point", 4, (2, 1, 1, 3)), ("thrice", [2, 3], (1, 5, 2, 1))):
        factor = tuple(float(s) for s in scale) if isinstance(scale, list) else float(scale)
        spatial(f"upsample_nearest_{case}", {"type": "upsample", "scale_factor": scale}, nn.Upsample(scale_factor=factor), shape)
        layer = {"type": "upsample", "scale_factor": scale, "mode": "bilinear"}
        spatial(f"upsample_bilinear_{case}", layer, nn.Upsample(scale_factor=factor, mode="bilinear"), shape)
    record("flatten_volume", {"type": "flatten"}, lambda v: first(v).flatten(1), torch.randn(2, 2, 3, 2, 4))
    record("flatten_signal", {"type": "flatten", "order": "channels_first"}, lambda v: first(v).flatten(1), torch.randn(2, 3, 4))
    record("flatten_sequence", {"type": "flatten"}, lambda v: v.flatten(1), torch.randn(2, 3, 4))
    record("flatten_number", {"type": "flatten"}, lambda v: v.reshape(-1, 1), torch.randn(3))


class Columns(nn.Module):
    """An embedding for each column of codes, the rows side by side."""

    def __init__(self, rows, widths):
        super().__init__()
        self.columns = nn.ModuleList(nn.Embedding(r, w) for r, w in zip(rows, widths))

    def forward(self, x):
        return torch.cat([column(x[..., i].long()) for i, column in enumerate(self.columns)], -1)


def embeddings():
    codes = torch.tensor([[0, 2, 5], [2, 4, 1]])
    table = {"type": "embedding", "num_embeddings": 7, "embedding_dim": 3}
    module = nn.Embedding(7, 3)
    record("embedding_of_floats", table, lambda x: module(x.long()), codes.float(), module.named_parameters())
    rows, widths = [3, 5, 6], [2, 1, 4]
    each = {"type": "columns_embedding", "num_embeddings": rows, "embedding_dim": widths}
    module = Columns(rows, widths)
    record("columns_embedding", each, module, codes, module.named_parameters())
    module = Columns(rows, [2, 2, 2])
    record("columns_embedding_of_floats", {**each, "embedding_dim": 2}, module, codes.float(), module.named_parameters())


def make():
    torch.manual_seed(200)
    for part in (
        convolutions,
        transposed_convolutions,
        depthwise,
        pools,
        pools_of_given_results,
        norms,
        activations,
        combinators,
        arrangements,
        embeddings,
    ):
        part()
    save("layers_spatial", tensors, {"cases": descriptions})
