"""Outputs and gradients of single layers and losses.

Tensors of a case: `CASE/input/NAME`, `CASE/param/NAME`, `CASE/state/NAME` (statistics before), `CASE/state_after/NAME`,
`CASE/output`, `CASE/cotangent`, `CASE/grad/NAME` for inputs and parameters, with gradients of sum(output * cotangent).
Images are [N, H, W, C]; parameters have PyTorch's names and layout.
"""

import torch
from torch import nn
from torch.nn import functional as F

from networks import Sequential
from store import nchw, nhwc, save

tensors, descriptions = {}, {}


def record(case, description, inputs, call, parameters=(), image_out=False):
    """Evaluate `call(*inputs)`, weigh its output by a fixed random cotangent and store the gradients."""
    leaves = {k: v.clone().requires_grad_(v.is_floating_point()) for k, v in inputs.items()}
    parameters = dict(parameters)
    output = call(*leaves.values())
    output = nhwc(output) if image_out else output
    cotangent = torch.randn(output.shape)
    output.backward(cotangent)
    descriptions[case] = description
    tensors[f"{case}/output"], tensors[f"{case}/cotangent"] = output, cotangent
    for name, leaf in leaves.items():
        tensors[f"{case}/input/{name}"] = leaf
        if leaf.grad is not None:
            tensors[f"{case}/grad/{name}"] = leaf.grad
    for name, parameter in parameters.items():
        tensors[f"{case}/param/{name}"], tensors[f"{case}/grad/{name}"] = parameter, parameter.grad


def layer(case, description, module, x, images=False):
    """Record a module; with `images` its input and output are channel-last."""
    call = (lambda value: module(nchw(value))) if images else module
    record(case, description, {"x": x}, call, module.named_parameters(), image_out=images)


def flatten():
    record("flatten_chw", {"layer": "Flatten", "order": "C, H, W"}, {"x": torch.randn(2, 3, 4, 5)}, lambda x: nchw(x).flatten(1))


def linear():
    layer("linear", {"layer": "Linear", "in": 5, "out": 3}, nn.Linear(5, 3), torch.randn(4, 5))
    layer("linear_rank3", {"layer": "Linear", "in": 4, "out": 6, "bias": False}, nn.Linear(4, 6, bias=False), torch.randn(2, 3, 4))


def convolutions():
    configurations = {
        "conv2d_plain": dict(in_channels=3, out_channels=4, kernel_size=[3, 3]),
        "conv2d_padded": dict(in_channels=2, out_channels=3, kernel_size=[3, 3], padding=[1, 1], bias=False),
        "conv2d_stride": dict(in_channels=2, out_channels=3, kernel_size=[3, 3], stride=[2, 2], padding=[1, 1]),
        "conv2d_dilation": dict(in_channels=2, out_channels=3, kernel_size=[3, 3], padding=[2, 2], dilation=[2, 2]),
        "conv2d_groups": dict(in_channels=4, out_channels=6, kernel_size=[3, 3], padding=[1, 1], groups=2),
        "conv2d_depthwise": dict(in_channels=4, out_channels=8, kernel_size=[3, 3], padding=[1, 1], groups=4),
        "conv2d_1x1": dict(in_channels=5, out_channels=4, kernel_size=[1, 1]),
        "conv2d_uneven": dict(in_channels=2, out_channels=3, kernel_size=[2, 5], stride=[2, 1], padding=[1, 2], dilation=[2, 1]),
        # The last row and column of the padded input are never read: their gradient is exactly zero.
        "conv2d_unread_edge": dict(in_channels=1, out_channels=2, kernel_size=[2, 2], stride=[3, 3]),
    }
    for case, c in configurations.items():
        layer(case, {"layer": "Conv2d", **c}, nn.Conv2d(**c), torch.randn(2, 6, 7, c["in_channels"]), images=True)


def pools():
    x = torch.randn(2, 6, 7, 3)
    for case, c in {
        "max_pool2d": dict(kernel_size=[2, 2], stride=[2, 2], padding=[0, 0]),
        "max_pool2d_padded": dict(kernel_size=[3, 3], stride=[2, 2], padding=[1, 1]),
        "max_pool2d_overlap": dict(kernel_size=[3, 2], stride=[1, 2], padding=[1, 0]),
    }.items():
        layer(case, {"layer": "MaxPool2d", **c}, nn.MaxPool2d(**c), x, images=True)
    for case, c in {
        "avg_pool2d": dict(kernel_size=[2, 2], stride=[2, 2], padding=[0, 0], count_include_pad=True),
        "avg_pool2d_include_pad": dict(kernel_size=[3, 3], stride=[2, 2], padding=[1, 1], count_include_pad=True),
        "avg_pool2d_exclude_pad": dict(kernel_size=[3, 3], stride=[2, 2], padding=[1, 1], count_include_pad=False),
    }.items():
        layer(case, {"layer": "AvgPool2d", **c}, nn.AvgPool2d(**c), x, images=True)
    record("global_avg_pool", {"layer": "global average pool"}, {"x": x}, lambda v: nchw(v).mean((2, 3)))
    record("global_max_pool", {"layer": "global max pool"}, {"x": x}, lambda v: nchw(v).amax((2, 3)))


def batch_norm(case, module, x, images, training):
    """Record a batch norm together with its statistics before and after."""
    with torch.no_grad():
        module.weight.uniform_(0.5, 1.5)
        module.bias.normal_()
        module.running_mean.normal_()
        module.running_var.uniform_(0.5, 2.0)
    module.train(training)
    statistics = lambda: {"running_mean": module.running_mean.clone(), "running_var": module.running_var.clone()}
    before = statistics()
    description = {"layer": "BatchNorm", "training": training, "eps": module.eps, "momentum": module.momentum}
    layer(case, description, module, x, images=images)
    after = statistics()
    for name in before:
        tensors[f"{case}/state/{name}"], tensors[f"{case}/state_after/{name}"] = before[name], after[name]


def norms():
    images, rows = torch.randn(3, 4, 5, 2) * 2 + 1, torch.randn(6, 4) * 3 - 1
    batch_norm("batch_norm2d_train", nn.BatchNorm2d(2), images, True, True)
    batch_norm("batch_norm2d_eval", nn.BatchNorm2d(2), images, True, False)
    batch_norm("batch_norm2d_momentum", nn.BatchNorm2d(2, eps=1e-3, momentum=0.3), images, True, True)
    batch_norm("batch_norm1d_train", nn.BatchNorm1d(4), rows, False, True)
    batch_norm("batch_norm1d_eval", nn.BatchNorm1d(4), rows, False, False)
    for case, shape, x in (("layer_norm", [6], torch.randn(2, 3, 6)), ("layer_norm_two_axes", [3, 6], torch.randn(2, 3, 6))):
        module = nn.LayerNorm(shape)
        with torch.no_grad():
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_()
        layer(case, {"layer": "LayerNorm", "shape": shape, "eps": module.eps}, module, x)


def sequences():
    # Row 2 twice: its gradient must add up. Row 6 never: its gradient is exactly zero.
    indices = torch.tensor([[0, 2, 5], [2, 4, 1]])
    layer("embedding", {"layer": "Embedding", "rows": 7, "width": 3}, nn.Embedding(7, 3), indices)
    for case, c in {
        "lstm": dict(input_size=3, hidden_size=4, num_layers=1),
        "lstm_two_layers": dict(input_size=3, hidden_size=5, num_layers=2),
        "lstm_no_bias": dict(input_size=3, hidden_size=4, num_layers=1, bias=False),
    }.items():
        module = nn.LSTM(**c, batch_first=True)
        layer(case, {"layer": "LSTM", "input": "[N, T, F]", **c}, lstm_outputs(module), torch.randn(2, 6, 3))
    module = nn.LSTM(3, 4, batch_first=True)
    states = {"x": torch.randn(2, 6, 3), "h0": torch.randn(1, 2, 4), "c0": torch.randn(1, 2, 4)}
    final = lambda x, h, c: torch.cat([v.flatten() for v in (lambda o: (o[0], o[1][0], o[1][1]))(module(x, (h, c)))])
    description = {"layer": "LSTM", "input": "[N, T, F]", "output": "every hidden state [N, T, H], then h_n, then c_n [1, N, H], each flattened"}
    record("lstm_states", description, states, final, module.named_parameters())


class lstm_outputs(nn.Module):
    """An LSTM that returns every hidden state alone, under the LSTM's own parameter names."""

    def __init__(self, lstm):
        super().__init__()
        self.lstm = [lstm]

    def named_parameters(self):
        return self.lstm[0].named_parameters()

    def forward(self, x):
        return self.lstm[0](x)[0]


class Residual(nn.Module):
    """body(x) + shortcut(x)."""

    def __init__(self, body, shortcut):
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x):
        return self.body(x) + self.shortcut(x)


def residual():
    body = Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1))
    module = Residual(body, Sequential(nn.Conv2d(2, 3, 1, bias=False)))
    description = {"layer": "Residual", "body": ["Conv2d 2 4 3 padding 1", "ReLU", "Conv2d 4 3 3 padding 1"], "shortcut": ["Conv2d 2 3 1 bias false"]}
    layer("residual", description, module, torch.randn(2, 4, 5, 2), images=True)


def activations():
    x = torch.linspace(-6.0, 6.0, 25)
    functions = {
        "relu": F.relu,
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "gelu_erf": F.gelu,
        "gelu_tanh": lambda v: F.gelu(v, approximate="tanh"),
        "erf": torch.erf,
    }
    for case, function in functions.items():
        # Shifted off the grid, so that no sample sits on the kink at 0.
        record(case, {"function": case}, {"x": x + 0.125}, function)
    rows = torch.randn(3, 5) * 3
    record("softmax", {"function": "softmax", "axis": -1}, {"x": rows}, lambda v: v.softmax(-1))
    record("softmax_axis0", {"function": "softmax", "axis": 0}, {"x": rows}, lambda v: v.softmax(0))
    record("softmax_large", {"function": "softmax", "axis": -1}, {"x": torch.tensor([[1e4, 1e4 - 1, 0.0], [-1e4, 0.0, 1.0]])}, lambda v: v.softmax(-1))
    record("log_softmax", {"function": "log_softmax", "axis": -1}, {"x": rows}, lambda v: v.log_softmax(-1))
    record("log_softmax_large", {"function": "log_softmax", "axis": -1}, {"x": torch.tensor([[1e4, 1e4 - 1, 0.0]])}, lambda v: v.log_softmax(-1))


def losses():
    logits, classes = torch.randn(6, 5) * 2, torch.tensor([0, 4, 2, 2, 1, 3])
    ignored = torch.tensor([0, -100, 2, 2, -100, 3])
    weights = torch.tensor([0.5, 1.0, 2.0, 1.5, 0.25])
    for case, c, y in (
        ("cross_entropy", {}, classes),
        ("cross_entropy_sum", {"reduction": "sum"}, classes),
        ("cross_entropy_ignore", {"ignore_index": -100}, ignored),
        ("cross_entropy_smoothing", {"label_smoothing": 0.1}, classes),
        ("cross_entropy_smoothing_ignore", {"label_smoothing": 0.1, "ignore_index": -100}, ignored),
        ("cross_entropy_weights", {"weight": weights}, classes),
        ("cross_entropy_weights_smoothing", {"weight": weights, "label_smoothing": 0.2}, classes),
    ):
        description = {"loss": "cross_entropy", "reduction": "mean"} | {k: v.tolist() if torch.is_tensor(v) else v for k, v in c.items()}
        record(case, description, {"logits": logits, "target": y}, lambda x, t, c=c: F.cross_entropy(x, t, **c))
    predicted, target = torch.randn(4, 3), torch.randn(4, 3)
    bits, weight = torch.rand(4, 3), torch.rand(3) + 0.5
    large = torch.tensor([[100.0, -100.0, 0.0], [30.0, -30.0, 1.0]])
    for reduction in ("mean", "sum"):
        description = {"reduction": reduction}
        record(f"mse_{reduction}", {"loss": "mse", **description}, {"x": predicted, "target": target}, lambda x, t: F.mse_loss(x, t, reduction=reduction))
        bce = lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction=reduction)
        record(f"bce_logits_{reduction}", {"loss": "bce_with_logits", **description}, {"logits": predicted * 3, "target": bits}, bce)
    bce = F.binary_cross_entropy_with_logits
    record("bce_logits_large", {"loss": "bce_with_logits"}, {"logits": large, "target": torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])}, bce)
    positive = lambda x, t: bce(x, t, pos_weight=weight)
    record("bce_logits_pos_weight", {"loss": "bce_with_logits", "pos_weight": weight.tolist()}, {"logits": predicted, "target": bits}, positive)


def make():
    torch.manual_seed(100)
    for part in (linear, flatten, convolutions, pools, norms, sequences, residual, activations, losses):
        part()
    save("layers", tensors, {"cases": descriptions})
