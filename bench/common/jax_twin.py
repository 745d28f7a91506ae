"""JAX twin: trains any configuration of models/ or bench/cpu with one jitted step, from given weights on given batches.

    python bench/common/jax_twin.py models/gpt-text.toml --weights W.safetensors --data D.npz
    python bench/common/jax_twin.py --serve

Parameters, statistics and the optimizer's state are donated to the step, images are channel-last, the LSTM is a lax.scan over the
products that do not depend on the state. Weights lie as JAX's libraries have them: [in, out], and kernels height, width, in, out. The
optimizers are PyTorch's formulas. The learning rate is constant.
"""

import math
import os

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from engine import Engine, child_name, codes, dropout_of, main, parser

ACTIVATIONS = {
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "silu": jax.nn.silu,
}
EPS = 1e-5


class Scope:
    """What layers need while the step is traced: parameters and statistics by name, and a key for each draw."""

    def __init__(self, params, stats, key):
        self.params, self.stats, self.key = params, stats, key
        self.new_stats, self.flattened = {}, {}

    def drop(self, x, p):
        """Zeroes elements with probability p, where there is a key."""
        if self.key is None or p == 0.0:
            return x
        self.key, key = jax.random.split(self.key)
        return jnp.where(jax.random.bernoulli(key, 1.0 - p, x.shape), x / (1.0 - p), 0.0)


def linear(cx, name, x):
    y = x @ cx.params[name + "weight"]
    return y + cx.params[name + "bias"] if name + "bias" in cx.params else y


def convolution(cx, name, x, spec):
    rank, stride, padding = x.ndim - 2, spec.get("stride", 1), spec.get("padding", 0)
    dimensions = ("NHWC", "HWIO", "NHWC") if rank == 2 else ("NWC", "WIO", "NWC")
    options = {"rhs_dilation": [spec.get("dilation", 1)] * rank, "dimension_numbers": dimensions, "feature_group_count": spec.get("groups", 1)}
    y = lax.conv_general_dilated(x, cx.params[name + "weight"], [stride] * rank, [(padding, padding)] * rank, **options)
    return y + cx.params[name + "bias"] if name + "bias" in cx.params else y


def conv_transpose2d(cx, name, x, spec):
    """The kernel lies as that of the convolution whose derivative this is."""
    options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "transpose_kernel": True}
    return lax.conv_transpose(x, cx.params[name + "weight"], [spec["stride"]] * 2, "VALID", **options) + cx.params[name + "bias"]


def batch_norm(cx, name, x):
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes)
    # Both moments in one pass over x, as in Flax.
    variance = jnp.maximum((x * x).mean(axes) - mean * mean, 0.0)
    count = x.size // x.shape[-1]
    for statistic, value in (("running_mean", mean), ("running_var", variance * (count / (count - 1)))):
        cx.new_stats[name + statistic] = 0.9 * cx.stats[name + statistic] + 0.1 * lax.stop_gradient(value)
    return (x - mean) * (lax.rsqrt(variance + EPS) * cx.params[name + "weight"]) + cx.params[name + "bias"]


def layer_norm(cx, name, x):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + EPS) * cx.params[name + "weight"] + cx.params[name + "bias"]


def max_pool2d(x, spec):
    kernel, padding = spec["kernel_size"], spec.get("padding", 0)
    window, strides = (1, kernel, kernel, 1), (1, spec.get("stride", kernel), spec.get("stride", kernel), 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, [(0, 0), (padding, padding), (padding, padding), (0, 0)])


def flatten(cx, name, x):
    cx.flattened[name] = x.shape[1:]
    return x.reshape(x.shape[0], -1)


def lstm(cx, name, x, spec, unroll):
    hidden = spec["hidden_size"]
    part = lambda end: cx.params[f"{name}{end}_l0"]
    projected = x @ part("weight_ih") + (part("bias_ih") + part("bias_hh"))
    recurrent = part("weight_hh")

    def cell(states, now):
        h, c = states
        i, f, g, o = jnp.split(now + h @ recurrent, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zeros = jnp.zeros((x.shape[0], hidden), x.dtype)
    (last, _), sequence = lax.scan(cell, (zeros, zeros), projected.swapaxes(0, 1), unroll=unroll)
    return last if spec.get("last_step", False) else sequence.swapaxes(0, 1)


def gru(cx, name, x, spec, unroll):
    """Every hidden state; both directions side by side."""
    directions = [gru_direction(cx, name, x, spec, "", unroll)]
    if spec.get("bidirectional", False):
        directions.append(gru_direction(cx, name, x[:, ::-1], spec, "_reverse", unroll)[:, ::-1])
    return jnp.concatenate(directions, -1)


def gru_direction(cx, name, x, spec, direction, unroll):
    hidden = spec["hidden_size"]
    part = lambda end: cx.params[f"{name}{end}_l0{direction}"]
    recurrent, bias = part("weight_hh"), part("bias_hh")

    def cell(h, now):
        (r, z, n), (of_r, of_z, of_n) = jnp.split(now, 3, axis=-1), jnp.split(h @ recurrent + bias, 3, axis=-1)
        z = jax.nn.sigmoid(z + of_z)
        n = jnp.tanh(n + jax.nn.sigmoid(r + of_r) * of_n)
        h = n + z * (h - n)
        return h, h

    projected = x @ part("weight_ih") + part("bias_ih")
    _, sequence = lax.scan(cell, jnp.zeros((x.shape[0], hidden), x.dtype), projected.swapaxes(0, 1), unroll=unroll)
    return sequence.swapaxes(0, 1)


def columns_embedding(cx, name, x, spec):
    tables = [cx.params[f"{name}columns.{i}.weight"] for i in range(len(spec["num_embeddings"]))]
    return jnp.concatenate([table[x[..., i]] for i, table in enumerate(tables)], -1)


def attention(cx, name, x, spec):
    n, t, e = x.shape
    heads = spec["num_heads"]
    projected = x @ cx.params[name + "in_proj_weight"] + cx.params[name + "in_proj_bias"]
    q, k, v = (part.reshape(n, t, heads, e // heads) for part in jnp.split(projected, 3, axis=-1))
    scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) / math.sqrt(e // heads)
    if spec.get("causal", False):
        scores = jnp.where(jnp.tril(jnp.ones((t, t), bool)), scores, -jnp.inf)
    shares = cx.drop(jax.nn.softmax(scores, axis=-1), dropout_of(spec))
    mixed = jnp.einsum("nhqk,nkhd->nqhd", shares, v).reshape(n, t, e)
    return linear(cx, name + "out_proj.", mixed)


def transformer_block(cx, name, x, spec):
    drop = lambda x: cx.drop(x, dropout_of(spec))
    attend = lambda x: drop(attention(cx, name + "self_attn.", x, spec))
    activation = ACTIVATIONS[spec.get("activation", "relu")]
    feed_forward = lambda x: drop(linear(cx, name + "linear2.", drop(activation(linear(cx, name + "linear1.", x)))))
    norm1, norm2 = (lambda x, i=i: layer_norm(cx, f"{name}norm{i}.", x) for i in (1, 2))
    if spec.get("norm_first", False):
        x = x + attend(norm1(x))
        return x + feed_forward(norm2(x))
    x = norm1(x + attend(x))
    return norm2(x + feed_forward(x))


def layer(cx, name, spec, x, unroll):
    """One layer's result for x."""
    match spec["type"]:
        case "linear":
            return linear(cx, name, x)
        case "conv1d" | "conv2d":
            return convolution(cx, name, x, spec)
        case "conv_transpose2d":
            return conv_transpose2d(cx, name, x, spec)
        case "batch_norm":
            return batch_norm(cx, name, x)
        case "layer_norm":
            return layer_norm(cx, name, x)
        case "max_pool2d":
            return max_pool2d(x, spec)
        case "global_avg_pool":
            return x.mean(tuple(range(1, x.ndim - 1)))
        case "flatten":
            return flatten(cx, name, x)
        case "reshape":
            return x.reshape(x.shape[0], *spec["shape"])
        case "dropout":
            return cx.drop(x, dropout_of(spec))
        case "embedding":
            return cx.params[name + "weight"][x]
        case "columns_embedding":
            return columns_embedding(cx, name, x, spec)
        case "positional_embedding":
            return x + cx.params[name + "weight"][: x.shape[1]]
        case "lstm":
            return lstm(cx, name, x, spec, unroll)
        case "gru":
            return gru(cx, name, x, spec, unroll)
        case "transformer_block":
            return transformer_block(cx, name, x, spec)
        case "residual":
            body = layers(cx, name + "body.", spec["body"], x, unroll)
            return body + layers(cx, name + "shortcut.", spec.get("shortcut", []), x, unroll)
        case "concat":
            branches = [layers(cx, f"{name}branches.{i}.", branch, x, unroll) for i, branch in enumerate(spec["branches"])]
            return jnp.concatenate(branches, -1)
        case "repeat":
            for i in range(spec["times"]):
                x = layers(cx, f"{name}layers.{i}.", spec["body"], x, unroll)
            return x
    return ACTIVATIONS[spec["type"]](x)


def layers(cx, prefix, specs, x, unroll):
    """The layers of a list one after the other."""
    for number, spec in enumerate(specs):
        x = layer(cx, f"{prefix}layers.{child_name(spec, number)}.", spec, x, unroll)
    return x


def loss_of(kind, output, target):
    """The mean loss of a batch."""
    if kind == "cross_entropy":
        label = jnp.take_along_axis(output, target[..., None], axis=-1)[..., 0]
        return (jax.nn.logsumexp(output, axis=-1) - label).mean()
    assert kind == "mse", kind
    return ((output - target.reshape(output.shape)) ** 2).mean()


def clipped(grads, limit):
    """Gradients whose norm, all together, is at most the limit."""
    norm = jnp.sqrt(sum((g * g).sum() for g in grads.values()))
    scale = jnp.minimum(limit / (norm + 1e-6), 1.0)
    return {name: g * scale for name, g in grads.items()}


def slots_of(spec, params):
    """The optimizer's state before the first step."""
    names = {"sgd": ["momentum"] if spec.get("momentum", 0.0) else [], "adam": ["m", "v"], "adamw": ["m", "v"]}[spec["type"]]
    return {name: {key: np.zeros_like(p) for key, p in params.items()} for name in names}


def sgd(spec, params, grads, slots):
    rate, momentum, decay = spec["learning_rate"], spec.get("momentum", 0.0), spec.get("weight_decay", 0.0)
    grads = jax.tree.map(lambda g, p: g + decay * p, grads, params)
    if not momentum:
        return jax.tree.map(lambda p, g: p - rate * g, params, grads), slots
    direction = jax.tree.map(lambda d, g: momentum * d + g, slots["momentum"], grads)
    step = jax.tree.map(lambda d, g: g + momentum * d, direction, grads) if spec.get("nesterov") else direction
    return jax.tree.map(lambda p, s: p - rate * s, params, step), {"momentum": direction}


def adam(spec, params, grads, slots, number):
    rate, (beta1, beta2), eps = spec["learning_rate"], spec.get("betas", (0.9, 0.999)), spec.get("eps", 1e-8)
    decoupled = spec["type"] == "adamw"
    decay = spec.get("weight_decay", 0.01 if decoupled else 0.0)
    if decay and decoupled:
        params = jax.tree.map(lambda p: p * (1.0 - rate * decay), params)
    elif decay:
        grads = jax.tree.map(lambda g, p: g + decay * p, grads, params)
    t = (number + 1).astype(jnp.float32)
    m = jax.tree.map(lambda m, g: beta1 * m + (1.0 - beta1) * g, slots["m"], grads)
    v = jax.tree.map(lambda v, g: beta2 * v + (1.0 - beta2) * g * g, slots["v"], grads)
    # 1 - beta^t, which in f32 would be off by 1e-5 for t = 1 and beta = 0.999.
    correction1, correction2 = (-jnp.expm1(t * math.log(beta)) for beta in (beta1, beta2))
    size, root = rate / correction1, jnp.sqrt(correction2)
    params = jax.tree.map(lambda p, m, v: p - size * m / (jnp.sqrt(v) / root + eps), params, m, v)
    return params, {"m": m, "v": v}


def train_step(config, dropout, unroll, state, x, y):
    """One step: the next state and the loss."""
    key = jax.random.fold_in(jax.random.key(0), state["number"]) if dropout else None

    def loss(params):
        cx = Scope(params, state["stats"], key)
        output = layers(cx, "", config["layers"], x, unroll)
        return loss_of(config["loss"]["type"], output, y), cx.new_stats

    (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(state["params"])
    if limit := config["train"].get("clip_norm"):
        grads = clipped(grads, limit)
    spec, number = config["optimizer"], state["number"]
    if spec["type"] == "sgd":
        params, slots = sgd(spec, state["params"], grads, state["slots"])
    else:
        params, slots = adam(spec, state["params"], grads, state["slots"], number)
    return {"params": params, "stats": stats, "slots": slots, "number": number + 1}, value


def as_jax(config, weights, x):
    """The file's arrays as JAX's libraries have them, and columns of a linear layer after `flatten` in the order of channel-last images."""
    tables = tuple(name for name, spec in named(config["layers"]) if spec["type"].endswith("embedding"))
    arrays = {}
    for name, value in weights.items():
        if value.ndim > 2:
            value = np.moveaxis(value, (1, 0), (-2, -1))
        elif value.ndim == 2 and not name.startswith(tables):
            value = value.T
        arrays[name] = np.ascontiguousarray(value)
    statistics = {name for name in arrays if name.endswith(("running_mean", "running_var"))}
    params = {name: value for name, value in arrays.items() if name not in statistics}
    stats = {name: arrays[name] for name in statistics}
    for name, (height, width, channels) in flattened_images(config, params, stats, x).items():
        by_channel = params[name].reshape(channels, height, width, -1)
        params[name] = np.ascontiguousarray(by_channel.transpose(1, 2, 0, 3)).reshape(height * width * channels, -1)
    return params, stats


def named(specs):
    """The layers of the outermost list with their names."""
    return [(f"layers.{child_name(spec, number)}.", spec) for number, spec in enumerate(specs)]


def flattened_images(config, params, stats, x):
    """The weights of linear layers that come next after images were flattened, with the images' shapes."""
    shapes = {}

    def look(params, stats, x):
        cx = Scope(params, stats, None)
        layers(cx, "", config["layers"], x, 1)
        shapes.update(cx.flattened)

    jax.eval_shape(look, params, stats, x)
    found, specs = {}, named(config["layers"])
    for number, (name, _) in enumerate(specs):
        if len(shapes.get(name, ())) == 3:
            after = next(after for after, spec in specs[number + 1 :] if spec["type"] == "linear")
            found[after + "weight"] = shapes[name]
    return found


class Jax(Engine):
    name, version = "jax", jax.__version__

    def __init__(self, arguments):
        jax.config.update("jax_platforms", arguments.device)
        jax.config.update("jax_default_prng_impl", arguments.prng)
        self.unroll, self.together = arguments.unroll, arguments.scan
        self.on_cpu = arguments.device == "cpu"
        if arguments.threads == 1:
            # Read when the first computation starts the backend.
            os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"

    def device(self):
        return jax.devices()[0].device_kind

    def build(self, config, weights, batches, precision, dropout):
        # "default" multiplies f32 in TF32 on GPUs that have it.
        jax.config.update("jax_default_matmul_precision", "highest" if precision == "highest" else "default")
        batches = [(codes(config, x), y) for x, y in batches]
        self.params, self.stats = as_jax(config, weights, batches[0][0])
        self.slots = slots_of(config["optimizer"], self.params)
        # The host's memory is the device's where that is the processor: there is no copy to make in the step.
        self.batches = jax.device_put(batches) if self.on_cpu else batches
        step = lambda state, x, y: train_step(config, dropout, self.unroll, state, x, y)
        self.compiled = jax.jit(step if self.together == 1 else self.many(step), donate_argnums=0)

    def many(self, step):
        """Several steps in one program, all on one batch."""
        return lambda state, x, y: lax.scan(lambda state, _: step(state, x, y), state, None, length=self.together)

    def reset(self):
        state = {"params": self.params, "stats": self.stats, "slots": self.slots, "number": np.int32(0)}
        self.state = jax.tree.map(jnp.array, state)

    def step(self, number):
        self.state, loss = self.compiled(self.state, *self.batches[number % len(self.batches)])
        return loss

    def wait(self, loss):
        loss.block_until_ready()

    def value(self, loss):
        return np.asarray(loss)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--prng", choices=["threefry2x32", "rbg"], default="threefry2x32", help="generator of dropout")
    arguments.add_argument("--unroll", type=int, default=1, help="time steps of an LSTM in one round of the loop")
    arguments.add_argument("--scan", type=int, default=1, metavar="N", help="make N steps in one program, on one batch")
    main(Jax, arguments.parse_args())
