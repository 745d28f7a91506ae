"""Ten training steps of six networks: initial values, first-step outputs and gradients, the loss curve, final values.

Every curve is computed in float32 (what users compare with) and again in float64 from the same initial values; a case whose
two curves differ by more than 1e-5 is too ill-conditioned to judge anybody and stops the script.
"""

import copy
import math

import torch
from torch import nn
from torch.nn import functional as F

from store import nchw, save

STEPS = 10
CURVE_TOLERANCE = 1e-5
FINAL_TOLERANCE = 1e-4


class Sequential(nn.Module):
    """Children under `layers.N`, the naming of backprop's Sequential."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
            x = x[0] if isinstance(layer, nn.LSTM) else x
        return x


class ChannelLast(nn.Module):
    """Lets a PyTorch image network take [N, H, W, C]; adds nothing to the parameter names."""

    def __init__(self, network):
        super().__init__()
        self.layers = network.layers

    def forward(self, x):
        return Sequential.forward(self, nchw(x))


class Block(nn.Module):
    """Pre-LN transformer block: x + proj(attention(ln1(x))), then x + down(gelu(up(ln2(x))))."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln1 = nn.LayerNorm(width)
        # Without bias: a key bias has gradient 0 (softmax ignores it), which Adam would turn into rounding noise of size lr.
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)
        self.ln2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def attention(self, x):
        n, t, d = x.shape
        # The 3d outputs are q, k, v in that order; each splits into [heads, d / heads], heads outermost.
        q, k, v = (part.view(n, t, self.heads, d // self.heads).transpose(1, 2) for part in self.qkv(x).split(d, dim=2))
        scores = q @ k.transpose(-2, -1) / math.sqrt(d // self.heads)
        future = torch.ones(t, t, dtype=torch.bool).triu(1)
        weights = scores.masked_fill(future, float("-inf")).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(n, t, d))

    def forward(self, x):
        x = x + self.attention(self.ln1(x))
        return x + self.down(F.gelu(self.up(self.ln2(x))))


class Transformer(nn.Module):
    """Decoder-only language model: token + learned position tables, blocks, final LayerNorm, head without bias."""

    def __init__(self, vocabulary, length, width, heads, depth):
        super().__init__()
        self.tok = nn.Parameter(torch.randn(vocabulary, width) * 0.5)
        self.pos = nn.Parameter(torch.randn(length, width) * 0.5)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.lnf = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens):
        x = F.embedding(tokens, self.tok) + self.pos
        for block in self.blocks:
            x = block(x)
        return self.head(self.lnf(x))


def cross_entropy(output, target):
    """Mean over every position; the class axis is last."""
    return F.cross_entropy(output.flatten(0, -2), target.flatten())


def curve(network, inputs, targets, loss_of, optimizer_of, clip):
    """Train on one batch after the other; returns losses, the first output, first gradients (before clipping), norms."""
    optimizer = optimizer_of(network.parameters())
    losses, norms, first_output, first_gradients = [], [], None, None
    for x, y in zip(inputs, targets):
        optimizer.zero_grad()
        output = network(x)
        loss = loss_of(output, y)
        loss.backward()
        if first_output is None:
            first_output = output.detach().clone()
            first_gradients = {name: p.grad.clone() for name, p in network.named_parameters()}
        norms.append(nn.utils.clip_grad_norm_(network.parameters(), clip or math.inf).item())
        optimizer.step()
        losses.append(loss.item())
    return losses, first_output, first_gradients, norms


def values(network):
    """Parameters and statistics by name; PyTorch's batch counter plays no part in any result."""
    return {k: v.detach().clone() for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}


def check_condition(name, losses, exact, final, final_exact):
    """Stop unless float64 tells the same story from the same start."""
    error = max(abs(a - b) / abs(b) for a, b in zip(losses, exact))
    final_error = max(((final[k].double() - v).abs().max() / v.abs().max().clamp_min(1e-30)).item() for k, v in final_exact.items())
    print(f"{name}: losses {losses[0]:.5f} to {losses[-1]:.5f}; float32 against float64: curve {error:.1e}, final values {final_error:.1e}")
    assert error <= CURVE_TOLERANCE, f"{name}: ill-conditioned curve"
    assert final_error <= FINAL_TOLERANCE, f"{name}: ill-conditioned final values"


def golden(name, network, inputs, targets, loss_of, optimizer_of, meta, clip=None):
    """Run one case in both precisions and write its file."""
    initial = values(network)
    double = copy.deepcopy(network).double()
    losses, output, gradients, norms = curve(network, inputs, targets, loss_of, optimizer_of, clip)
    double_inputs = inputs.double() if inputs.is_floating_point() else inputs
    double_targets = targets.double() if targets.is_floating_point() else targets
    exact, *_ = curve(double, double_inputs, double_targets, loss_of, optimizer_of, clip)
    check_condition(name, losses, exact, values(network), values(double))
    assert clip is None or min(norms) < clip < max(norms), f"{name}: clipping must be active in some steps and idle in others: {norms}"
    tensors = {"inputs": inputs, "targets": targets, "output": output, "losses": losses, "norms": norms}
    tensors |= {f"init/{k}": v for k, v in initial.items()}
    tensors |= {f"grad/{k}": v for k, v in gradients.items()}
    tensors |= {f"final/{k}": v for k, v in values(network).items()}
    save(name, tensors, {**meta, "steps": STEPS, "clip_norm": clip})


def mlp():
    network = Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 5))
    meta = {
        "layers": ["Linear 20 32", "ReLU", "Linear 32 16", "Tanh", "Linear 16 5"],
        "loss": "cross_entropy",
        "optimizer": {"name": "Adam", "lr": 1e-2, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0},
    }
    inputs, targets = torch.randn(STEPS, 16, 20), torch.randint(0, 5, (STEPS, 16))
    golden("mlp", network, inputs, targets, cross_entropy, lambda p: torch.optim.Adam(p, lr=1e-2), meta)


def cnn():
    network = Sequential(
        nn.Conv2d(2, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, stride=2, padding=2, groups=2),
        nn.GELU(),
        nn.AvgPool2d(3, stride=1),
        nn.Flatten(),
        nn.Linear(48, 7),
    )
    with torch.no_grad():
        network.layers[1].weight.uniform_(0.5, 1.5)
        network.layers[1].bias.normal_(0.0, 0.3)
    meta = {
        "layers": [
            "Conv2d 2 8 kernel 3 padding 1 bias false",
            "BatchNorm 8 eps 1e-5 momentum 0.1",
            "ReLU",
            "MaxPool2d 2",
            "Conv2d 8 12 kernel 3 stride 2 padding 2 groups 2",
            "GELU erf",
            "AvgPool2d kernel 3 stride 1",
            "Flatten in the order C, H, W",
            "Linear 48 7",
        ],
        "input_layout": "NHWC",
        "loss": "cross_entropy",
        "optimizer": {"name": "SGD", "lr": 0.05, "momentum": 0.9, "nesterov": True, "dampening": 0.0, "weight_decay": 1e-3},
    }
    inputs, targets = torch.randn(STEPS, 8, 12, 12, 2), torch.randint(0, 7, (STEPS, 8))
    optimizer = lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
    golden("cnn", ChannelLast(network), inputs, targets, cross_entropy, optimizer, meta)


def lstm():
    network = Sequential(nn.Embedding(11, 6), nn.LSTM(6, 10, num_layers=2, batch_first=True), nn.Linear(10, 11))
    meta = {
        "layers": ["Embedding 11 6", "LSTM 6 10 num_layers 2", "Linear 10 11 on every step"],
        "loss": "cross_entropy over [N, T]",
        "optimizer": {"name": "AdamW", "lr": 1e-2, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.05},
    }
    inputs = torch.randint(0, 11, (STEPS, 4, 9))
    # Even batches see two classes only, odd ones all: gradient norms on both sides of the clipping limit.
    targets = torch.stack([torch.randint(0, 2 if step % 2 == 0 else 11, (4, 9)) for step in range(STEPS)])
    optimizer = lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.05)
    golden("lstm", network, inputs, targets, cross_entropy, optimizer, meta, clip=0.5)


def autoencoder(with_logits):
    layers = []
    for a, b in ((30, 12), (12, 4), (4, 12), (12, 30)):
        layers += [nn.Linear(a, b), nn.Sigmoid()]
    descriptions = [f"Linear {m.in_features} {m.out_features}" if isinstance(m, nn.Linear) else "Sigmoid" for m in layers]
    if with_logits:
        layers, descriptions = layers[:-1], descriptions[:-1]
    meta = {
        "layers": descriptions,
        "loss": "binary_cross_entropy_with_logits, mean over all elements" if with_logits else "mse, mean over all elements",
        "optimizer": {"name": "SGD", "lr": 0.5, "momentum": 0.0, "weight_decay": 0.0},
    }
    inputs = torch.rand(STEPS, 10, 30)
    loss_of = F.binary_cross_entropy_with_logits if with_logits else F.mse_loss
    name = "autoencoder_bce" if with_logits else "autoencoder"
    golden(name, Sequential(*layers), inputs, inputs.clone(), loss_of, lambda p: torch.optim.SGD(p, lr=0.5), meta)


def transformer():
    network = Transformer(vocabulary=13, length=8, width=16, heads=2, depth=2)
    meta = {
        "shape": {"vocabulary": 13, "length": 8, "width": 16, "heads": 2, "depth": 2},
        "block": "x + proj(attention(ln1 x)); x + down(gelu_erf(up(ln2 x))); qkv without bias, rows q, k, v; LayerNorm eps 1e-5",
        "loss": "cross_entropy over [N, T]",
        "optimizer": {"name": "AdamW", "lr": 3e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01},
    }
    inputs, targets = torch.randint(0, 13, (STEPS, 4, 8)), torch.randint(0, 13, (STEPS, 4, 8))
    optimizer = lambda p: torch.optim.AdamW(p, lr=3e-3, weight_decay=0.01)
    golden("transformer", network, inputs, targets, cross_entropy, optimizer, meta)


def make():
    """Write every network's file, each from its own seed so that one case can change alone."""
    cases = (mlp, cnn, lstm, lambda: autoencoder(False), lambda: autoencoder(True), transformer)
    for seed, case in enumerate(cases, start=1):
        torch.manual_seed(seed)
        case()
