"""Outputs and gradients of recurrent layers, attention, transformer blocks and positions, some with padding.

Tensors and descriptions are those of single_layers_spatial.py. Where a case has padding, an embedding with `mask` stands before the layer,
and its codes are 0 where a sequence has ended; PyTorch gets the lengths.
"""

import math

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import single_layers_spatial as spatial
from networks import Sequential
from store import save

KINDS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


class Recurrent(nn.Module):
    """A recurrent module: every hidden state, or the last, of packed sequences where there is padding."""

    def __init__(self, kind, features, last_step=False, **c):
        super().__init__()
        self.last_step, self.inner = last_step, KINDS[kind](features, batch_first=True, **c)

    def forward(self, x, lengths=None):
        length = x.shape[1]
        if lengths is not None:
            x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        output, states = self.inner(x)
        if self.last_step:
            hidden = states[0] if isinstance(states, tuple) else states
            return torch.cat(list(hidden[-2:] if self.inner.bidirectional else hidden[-1:]), -1)
        return output if lengths is None else pad_packed_sequence(output, batch_first=True, total_length=length)[0]


def recurrent():
    configurations = [
        ("plain", (2, 5, 3), dict(hidden_size=4)),
        ("number", (1, 1, 1), dict(hidden_size=1)),
        ("one_step", (3, 1, 2), dict(hidden_size=3, bias=False)),
        ("stacked", (2, 4, 3), dict(hidden_size=2, num_layers=3)),
        ("both", (3, 5, 2), dict(hidden_size=3, bidirectional=True)),
        ("both_stacked", (1, 7, 3), dict(hidden_size=2, num_layers=2, bidirectional=True)),
        ("last", (5, 3, 4), dict(hidden_size=7, last_step=True)),
        ("both_last", (2, 6, 1), dict(hidden_size=3, num_layers=2, bidirectional=True, bias=False, last_step=True)),
        ("long", (1, 33, 2), dict(hidden_size=5)),
    ]
    for kind in KINDS:
        for name, shape, c in configurations:
            module = Recurrent(kind, shape[2], **c)
            spatial.record(f"{kind}_{name}", {"type": kind, **c}, module, torch.randn(shape), module.inner.named_parameters())
    c = dict(hidden_size=4, num_layers=2, nonlinearity="relu")
    module = Recurrent("rnn", 3, **c)
    spatial.record("rnn_relu", {"type": "rnn", **c}, module, torch.randn(2, 4, 3), module.inner.named_parameters())


def attention():
    for name, shape, heads, c in (
        ("plain", (2, 5, 6), 2, {}),
        ("number", (1, 1, 1), 1, {}),
        ("one_head", (2, 3, 5), 1, {}),
        ("one_step", (3, 1, 4), 2, {}),
        ("no_bias", (2, 4, 6), 3, dict(bias=False)),
        ("causal", (2, 5, 4), 2, dict(causal=True)),
        ("causal_one", (1, 1, 2), 1, dict(causal=True)),
        ("causal_long", (1, 33, 6), 3, dict(causal=True)),
        ("wide", (1, 7, 12), 12, {}),
    ):
        module = nn.MultiheadAttention(shape[2], heads, bias=c.get("bias", True), batch_first=True)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.normal_(0.0, 0.5)
        mask = future(shape[1]) if c.get("causal") else None
        call = lambda x: module(x, x, x, attn_mask=mask, need_weights=False)[0]
        layer = {"type": "multi_head_attention", "num_heads": heads, **c}
        spatial.record(f"attention_{name}", layer, call, torch.randn(shape), module.named_parameters())


def future(length):
    """True where a key comes after the query."""
    return torch.ones(length, length, dtype=torch.bool).triu(1)


def blocks():
    for name, shape, heads, inner, causal, c in (
        ("plain", (2, 5, 6), 2, 8, False, {}),
        ("one_head", (1, 3, 5), 1, 7, False, {}),
        ("one_step", (3, 1, 4), 2, 3, False, {}),
        ("norm_first", (2, 4, 6), 3, 8, False, dict(norm_first=True)),
        ("gelu", (2, 4, 4), 2, 16, False, dict(activation="gelu")),
        ("causal", (2, 5, 4), 2, 9, True, {}),
        ("decoder", (1, 7, 6), 2, 24, True, dict(norm_first=True, activation="gelu")),
        ("long", (1, 33, 4), 4, 4, False, dict(norm_first=True)),
    ):
        module = nn.TransformerEncoderLayer(shape[2], heads, inner, dropout=0.0, batch_first=True, **c)
        mask = future(shape[1]) if causal else None
        layer = {"type": "transformer_block", "num_heads": heads, "dim_feedforward": inner, "dropout": 0.0, "causal": causal, **c}
        spatial.record(f"block_{name}", layer, lambda x: module(x, src_mask=mask), torch.randn(shape), module.named_parameters())


def positions():
    for n, t, e, most in ((2, 5, 3, 5), (1, 1, 1, 4), (3, 2, 4, 9)):
        module = nn.Embedding(most, e)
        call = lambda x: x + module.weight[:t]
        layer = {"type": "positional_embedding", "max_len": most}
        spatial.record(f"positional_embedding_{t}", layer, call, torch.randn(n, t, e), module.named_parameters())
        # As in PyTorch's tutorial.
        angles = torch.arange(t).unsqueeze(1) * torch.exp(torch.arange(0, e, 2) * (-math.log(10000.0) / e))
        waves = torch.zeros(t, e)
        waves[:, 0::2], waves[:, 1::2] = angles.sin(), angles.cos()[:, : e // 2]
        spatial.record(f"sinusoidal_positions_{t}", {"type": "sinusoidal_positions"}, lambda x: x + waves, torch.randn(n, t, e))


def padded():
    codes = torch.tensor([[3, 1, 4, 2, 5], [2, 6, 0, 0, 0], [1, 0, 0, 0, 0], [4, 4, 1, 3, 0]])
    lengths, padding = (codes != 0).sum(1), codes == 0
    table = {"type": "embedding", "num_embeddings": 7, "embedding_dim": 4, "padding_idx": 0, "mask": True}

    def record(case, layer, module, call, inner):
        model = Sequential(nn.Embedding(7, 4, padding_idx=0), inner)
        sequential = {"type": "sequential", "layers": [table, layer]}
        spatial.record(case, sequential, lambda x: call(module, model.layers[0](x)), codes, model.named_parameters())

    spatial.record("embedding_padding", {**table, "mask": False}, *_embedding(codes))
    for kind in KINDS:
        for name, c in (("sequence", dict(hidden_size=3)), ("both", dict(hidden_size=2, num_layers=2, bidirectional=True)), ("last", dict(hidden_size=2, bidirectional=True, last_step=True))):
            module = Recurrent(kind, 4, **c)
            record(f"{kind}_padded_{name}", {"type": kind, **c}, module, lambda m, x: m(x, lengths), module.inner)
    for causal in (False, True):
        mask = future(5) if causal else None
        module = nn.MultiheadAttention(4, 2, batch_first=True)
        layer = {"type": "multi_head_attention", "num_heads": 2, "causal": causal}
        attend = lambda m, x: m(x, x, x, key_padding_mask=padding, attn_mask=mask, need_weights=False)[0]
        record(f"attention_padded_{causal}".lower(), layer, module, attend, module)
    module = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)
    layer = {"type": "transformer_block", "num_heads": 2, "dim_feedforward": 6, "dropout": 0.0}
    record("block_padded", layer, module, lambda m, x: m(x, src_key_padding_mask=padding), module)
    keep = ~padding.unsqueeze(-1)
    record("mean_padded", {"type": "global_avg_pool"}, None, lambda _, x: (x * keep).sum(1) / keep.sum(1), nn.Identity())
    record("max_padded", {"type": "global_max_pool"}, None, lambda _, x: x.masked_fill(~keep, -torch.inf).amax(1), nn.Identity())


def _embedding(codes):
    module = nn.Embedding(7, 4, padding_idx=0)
    return module, codes, module.named_parameters()


def make():
    torch.manual_seed(300)
    # The table of cases is shared with the layers over space, which are saved by now.
    spatial.tensors.clear(), spatial.descriptions.clear()
    for part in (recurrent, attention, blocks, positions, padded):
        part()
    save("layers_sequence", spatial.tensors, {"cases": spatial.descriptions})
