"""PyTorch twin: trains any configuration of models/ or bench/cpu eagerly, from given weights on given batches.

    python bench/common/torch_twin.py models/gpt-text.toml --weights W.safetensors --data D.npz
    python bench/common/torch_twin.py --serve

Images are channel-last in memory unless asked otherwise, the LSTM and the attention are cuDNN's and PyTorch's own, the optimizer is fused. The learning rate is
constant. Parameter names are those of the file.
"""

import torch
from torch import nn
from torch.nn import functional as F

from engine import Engine, child_name, codes, dropout_of, main, parser

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "gelu": nn.GELU, "silu": nn.SiLU}


class Layers(nn.Module):
    """A list of layers, one after the other."""

    def __init__(self, specs, weights, prefix):
        super().__init__()
        self.layers = nn.ModuleDict()
        for number, spec in enumerate(specs):
            name = child_name(spec, number)
            after = specs[number + 1]["type"] if number + 1 < len(specs) else ""
            self.layers[name] = layer(spec, weights, f"{prefix}layers.{name}.", after)

    def forward(self, x):
        for module in self.layers.values():
            x = module(x)
        return x


class Residual(nn.Module):
    """The body's result plus the shortcut's."""

    def __init__(self, spec, weights, prefix):
        super().__init__()
        self.body = Layers(spec["body"], weights, prefix + "body.")
        self.shortcut = Layers(spec.get("shortcut", []), weights, prefix + "shortcut.")

    def forward(self, x):
        return self.body(x) + self.shortcut(x)


class Repeat(nn.Module):
    """A body several times, each with its own parameters."""

    def __init__(self, spec, weights, prefix):
        super().__init__()
        self.layers = nn.ModuleList(Layers(spec["body"], weights, f"{prefix}layers.{i}.") for i in range(spec["times"]))

    def forward(self, x):
        for module in self.layers:
            x = module(x)
        return x


class Concat(nn.Module):
    """The channels of all branches side by side."""

    def __init__(self, spec, weights, prefix):
        super().__init__()
        self.branches = nn.ModuleList(Layers(branch, weights, f"{prefix}branches.{i}.") for i, branch in enumerate(spec["branches"]))

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], 1)


class Lstm(nn.LSTM):
    """Every hidden state, or the last."""

    def __init__(self, spec, features):
        super().__init__(features, spec["hidden_size"], batch_first=True)
        self.last_step = spec.get("last_step", False)

    def forward(self, x):
        sequence = super().forward(x)[0]
        return sequence[:, -1] if self.last_step else sequence


class Gru(nn.GRU):
    """Every hidden state."""

    def __init__(self, spec, features):
        super().__init__(features, spec["hidden_size"], batch_first=True, bidirectional=spec.get("bidirectional", False))

    def forward(self, x):
        return super().forward(x)[0]


class ColumnsEmbedding(nn.Module):
    """A table for each column of codes, the rows side by side."""

    def __init__(self, spec):
        super().__init__()
        self.columns = nn.ModuleList(nn.Embedding(rows, spec["embedding_dim"]) for rows in spec["num_embeddings"])

    def forward(self, x):
        return torch.cat([table(x[..., i]) for i, table in enumerate(self.columns)], -1)


class Reshape(nn.Module):
    """Another shape of each row, by the order of channel-last elements; turned to PyTorch's order where a convolution comes next."""

    def __init__(self, spec, after):
        super().__init__()
        self.shape, self.turned = spec["shape"], after == "conv1d"

    def forward(self, x):
        x = x.permute(0, 2, 3, 1) if x.ndim == 4 else x
        x = x.reshape(len(x), *self.shape)
        return x.transpose(1, 2) if self.turned else x


class PositionalEmbedding(nn.Module):
    """Adds a learned vector to each position."""

    def __init__(self, shape):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))

    def forward(self, x):
        return x + self.weight[: x.shape[1]]


class SelfAttention(nn.Module):
    """Attention in several heads, with the parameters of nn.MultiheadAttention."""

    def __init__(self, spec, features):
        super().__init__()
        self.heads, self.causal, self.p = spec["num_heads"], spec.get("causal", False), dropout_of(spec)
        self.in_proj_weight = nn.Parameter(torch.empty(3 * features, features))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * features))
        self.out_proj = nn.Linear(features, features)

    def forward(self, x):
        n, t, e = x.shape
        projected = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = projected.view(n, t, 3, self.heads, e // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=self.p if self.training else 0.0, is_causal=self.causal)
        return self.out_proj(mixed.transpose(1, 2).reshape(n, t, e))


class TransformerBlock(nn.Module):
    """Attention and two linear layers, with the parameters of nn.TransformerEncoderLayer."""

    def __init__(self, spec, features):
        super().__init__()
        self.norm_first = spec.get("norm_first", False)
        hidden = spec.get("dim_feedforward", 2048)
        self.self_attn = SelfAttention(spec, features)
        self.linear1, self.linear2 = nn.Linear(features, hidden), nn.Linear(hidden, features)
        self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)
        self.activation = ACTIVATIONS[spec.get("activation", "relu")]()
        self.dropout = nn.Dropout(dropout_of(spec))

    def attend(self, x):
        return self.dropout(self.self_attn(x))

    def feed_forward(self, x):
        return self.dropout(self.linear2(self.dropout(self.activation(self.linear1(x)))))

    def forward(self, x):
        if self.norm_first:
            x = x + self.attend(self.norm1(x))
            return x + self.feed_forward(self.norm2(x))
        x = self.norm1(x + self.attend(x))
        return self.norm2(x + self.feed_forward(x))


class GlobalAvgPool(nn.Module):
    """The mean over each channel's positions, of images or of a sequence [N, T, F]."""

    def forward(self, x):
        return x.mean((2, 3) if x.ndim == 4 else 1)


def layer(spec, weights, prefix, after):
    """The module of one table of a configuration; `after` is the type of the next. Extents of inputs are read off the weights."""
    kind = spec["type"]
    extents = lambda name: weights[prefix + name].shape
    match kind:
        case "linear":
            return nn.Linear(extents("weight")[1], spec["out_features"], bias=spec.get("bias", True))
        case "conv1d" | "conv2d":
            options = {name: spec[name] for name in ("stride", "padding", "dilation", "groups", "bias") if name in spec}
            channels = extents("weight")[1] * spec.get("groups", 1)
            convolution = nn.Conv1d if kind == "conv1d" else nn.Conv2d
            return convolution(channels, spec["out_channels"], spec["kernel_size"], **options)
        case "conv_transpose2d":
            return nn.ConvTranspose2d(extents("weight")[0], spec["out_channels"], spec["kernel_size"], spec["stride"])
        case "batch_norm":
            return nn.BatchNorm2d(extents("weight")[0])
        case "layer_norm":
            return nn.LayerNorm(extents("weight")[0])
        case "max_pool2d":
            return nn.MaxPool2d(spec["kernel_size"], spec.get("stride"), spec.get("padding", 0))
        case "global_avg_pool":
            return GlobalAvgPool()
        case "flatten":
            return nn.Flatten()
        case "reshape":
            return Reshape(spec, after)
        case "dropout":
            return nn.Dropout(dropout_of(spec))
        case "embedding":
            return nn.Embedding(spec["num_embeddings"], spec["embedding_dim"])
        case "columns_embedding":
            return ColumnsEmbedding(spec)
        case "positional_embedding":
            return PositionalEmbedding(extents("weight"))
        case "lstm":
            return Lstm(spec, extents("weight_ih_l0")[1])
        case "gru":
            return Gru(spec, extents("weight_ih_l0")[1])
        case "transformer_block":
            return TransformerBlock(spec, extents("norm1.weight")[0])
        case "residual":
            return Residual(spec, weights, prefix)
        case "concat":
            return Concat(spec, weights, prefix)
        case "repeat":
            return Repeat(spec, weights, prefix)
    return ACTIVATIONS[kind]()


def loss_of(kind, output, target):
    """The mean loss of a batch."""
    if kind == "cross_entropy":
        return F.cross_entropy(output.flatten(0, -2), target.flatten())
    assert kind == "mse", kind
    return F.mse_loss(output, target.view_as(output))


def optimizer_of(spec, parameters):
    """The optimizer of a configuration, all parameters in one kernel each step."""
    options = {name: value for name, value in spec.items() if name not in ("type", "learning_rate")}
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    return kinds[spec["type"]](parameters, lr=spec["learning_rate"], fused=True, **options)


class Torch(Engine):
    name, version = "torch", torch.__version__

    def __init__(self, arguments):
        self.compiled = arguments.compile
        self.name = "torch.compile" if self.compiled else "torch"
        self.to = torch.device(arguments.device)
        self.layout = torch.channels_last if arguments.layout == "channels-last" else torch.contiguous_format
        if arguments.threads:
            torch.set_num_threads(arguments.threads)
        torch.backends.cudnn.benchmark = True

    def device(self):
        return torch.cuda.get_device_name(self.to) if self.to.type == "cuda" else "cpu"

    def build(self, config, weights, batches, precision, dropout):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        self.config = config
        self.weights = {name: torch.from_numpy(value) for name, value in weights.items()}
        network = Layers(config["layers"], weights, "")
        for module in network.modules():
            if not dropout and isinstance(module, nn.Dropout | SelfAttention):
                module.p = 0.0
        # Parameters get their layout before the optimizer sees them.
        self.network = network.to(self.to).to(memory_format=self.layout).train()
        forward = lambda x, y: loss_of(config["loss"]["type"], self.network(x), y)
        self.forward = torch.compile(forward) if self.compiled else forward
        self.batches = [(self.host(codes(config, x)), self.host(y, target=True)) for x, y in batches]

    def host(self, array, target=False):
        """A batch in host memory, from where it is copied in each step; pinned where there is a GPU."""
        tensor = torch.from_numpy(array)
        if target and not tensor.is_floating_point():
            tensor = tensor.long()
        if self.to.type == "cuda":
            tensor = tensor.pin_memory()
        if target or tensor.ndim != 4:
            return tensor
        # Images lie channel-last in the file; this is a view of the same bytes, unless they shall lie otherwise.
        return tensor.permute(0, 3, 1, 2).contiguous(memory_format=self.layout)

    def reset(self):
        missing, unexpected = self.network.load_state_dict(self.weights, strict=False)
        missing = [name for name in missing if not name.endswith(("num_batches_tracked", "running_mean", "running_var"))]
        if missing or unexpected:
            raise ValueError(f"the weights lack {missing} and have {unexpected}")
        self.optimizer = optimizer_of(self.config["optimizer"], list(self.network.parameters()))

    def step(self, number):
        x, y = (part.to(self.to, non_blocking=True) for part in self.batches[number % len(self.batches)])
        loss = self.forward(x, y)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if limit := self.config["train"].get("clip_norm"):
            nn.utils.clip_grad_norm_(self.network.parameters(), limit)
        self.optimizer.step()
        return loss.detach()


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--layout", choices=["channels-last", "channels-first"], default="channels-last", help="of images and kernels")
    arguments.add_argument("--compile", action="store_true", help="torch.compile instead of eager")
    main(Torch, arguments.parse_args())
