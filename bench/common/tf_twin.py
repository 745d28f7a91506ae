"""TensorFlow twin: trains any configuration of models/ or bench/cpu with one tf.function, from given weights on given batches.

    python bench/common/tf_twin.py models/gpt-text.toml --weights W.safetensors --data D.npz --device cpu
    python bench/common/tf_twin.py --serve --device cpu --xla

Variables are raw, updated by TensorFlow's own kernels for each optimizer; images are channel-last, weights [in, out] and height, width, in,
out. The LSTM is unrolled, with the products of the input outside the steps. The learning rate is constant.
"""

import math
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from engine import Engine, child_name, codes, dropout_of, main, parser

ACTIVATIONS = {
    "relu": tf.nn.relu,
    "sigmoid": tf.sigmoid,
    "tanh": tf.tanh,
    "gelu": lambda x: tf.nn.gelu(x, approximate=False),
    "silu": tf.nn.silu,
}
EPS = 1e-5


class Network:
    """Variables by name, and the layers that read them."""

    def __init__(self, config, weights, x, dropout):
        self.config, self.dropout = config, dropout
        self.flattened = {}
        self.variables = {name: tf.Variable(self.placed(name, value)) for name, value in weights.items()}
        self.params = {n: v for n, v in self.variables.items() if not n.endswith(("running_mean", "running_var"))}
        # Shapes of flattened images are known after one look at the network.
        tf.function(self.forward, autograph=False).get_concrete_function(tf.TensorSpec(x.shape, x.dtype))

    def placed(self, name, value):
        """A tensor of the file as TensorFlow's kernels read it."""
        if value.ndim > 2:
            kernel = np.moveaxis(value, (1, 0), (-2, -1))
            # Depthwise kernels are [height, width, channel, 1].
            return np.ascontiguousarray(kernel.swapaxes(2, 3) if value.shape[1] == 1 and self.depthwise(name) else kernel)
        tables = tuple(prefix for prefix, spec in self.outermost() if spec["type"].endswith("embedding"))
        return np.ascontiguousarray(value.T) if value.ndim == 2 and not name.startswith(tables) else value

    def outermost(self):
        """The layers of the outermost list with their names."""
        return [(f"layers.{child_name(spec, n)}.", spec) for n, spec in enumerate(self.config["layers"])]

    def depthwise(self, name):
        return any(name == prefix + "weight" and spec.get("groups", 1) > 1 for prefix, spec in self.outermost())

    def load(self, weights):
        """Back to the first values. Rows of the linear layer after `flatten` are put in the order of channel-last images."""
        for name, value in weights.items():
            value = self.placed(name, value)
            if image := self.flattened.get(name):
                height, width, channels = image
                value = value.reshape(channels, height, width, -1).transpose(1, 2, 0, 3).reshape(height * width * channels, -1)
            self.variables[name].assign(value)

    def forward(self, x):
        return self.layers("", self.config["layers"], x)

    def layers(self, prefix, specs, x):
        """The layers of a list one after the other."""
        shape = None
        for number, spec in enumerate(specs):
            name = f"{prefix}layers.{child_name(spec, number)}."
            if spec["type"] == "flatten":
                shape = x.shape[1:]
            elif spec["type"] == "linear" and shape is not None:
                if len(shape) == 3:
                    self.flattened[name + "weight"] = tuple(shape)
                shape = None
            x = self.layer(name, spec, x)
        return x

    def layer(self, name, spec, x):
        """One layer's result for x."""
        match spec["type"]:
            case "linear":
                return self.linear(name, x)
            case "conv1d":
                return self.conv1d(name, spec, x)
            case "conv2d":
                return self.conv2d(name, spec, x)
            case "conv_transpose2d":
                return self.conv_transpose2d(name, spec, x)
            case "batch_norm":
                return self.batch_norm(name, x)
            case "layer_norm":
                return self.layer_norm(name, x)
            case "max_pool2d":
                padding = [[0, 0], *[[spec.get("padding", 0)] * 2] * 2, [0, 0]]
                return tf.nn.max_pool2d(x, spec["kernel_size"], spec.get("stride", spec["kernel_size"]), padding if spec.get("padding") else "VALID")
            case "global_avg_pool":
                return tf.reduce_mean(x, tuple(range(1, len(x.shape) - 1)))
            case "flatten":
                return tf.reshape(x, (x.shape[0], -1))
            case "reshape":
                return tf.reshape(x, (x.shape[0], *spec["shape"]))
            case "dropout":
                return self.drop(x, dropout_of(spec))
            case "embedding":
                return tf.gather(self.params[name + "weight"], x)
            case "columns_embedding":
                tables = [self.params[f"{name}columns.{i}.weight"] for i in range(len(spec["num_embeddings"]))]
                return tf.concat([tf.gather(table, x[..., i]) for i, table in enumerate(tables)], -1)
            case "positional_embedding":
                return x + self.params[name + "weight"][: x.shape[1]]
            case "lstm":
                return self.lstm(name, spec, x)
            case "gru":
                return self.gru(name, spec, x)
            case "transformer_block":
                return self.transformer_block(name, spec, x)
            case "residual":
                return self.layers(name + "body.", spec["body"], x) + self.layers(name + "shortcut.", spec.get("shortcut", []), x)
            case "concat":
                return tf.concat([self.layers(f"{name}branches.{i}.", branch, x) for i, branch in enumerate(spec["branches"])], -1)
            case "repeat":
                for i in range(spec["times"]):
                    x = self.layers(f"{name}layers.{i}.", spec["body"], x)
                return x
        return ACTIVATIONS[spec["type"]](x)

    def drop(self, x, p):
        return tf.nn.dropout(x, p) if self.dropout and p else x

    def linear(self, name, x, weight="weight", bias="bias"):
        """All leading axes as one: a product of two matrices has the fastest kernel."""
        matrix = self.params[name + weight]
        y = tf.matmul(tf.reshape(x, (-1, x.shape[-1])), matrix)
        if name + bias in self.params:
            y = tf.nn.bias_add(y, self.params[name + bias])
        return tf.reshape(y, (*x.shape[:-1], matrix.shape[1]))

    def conv2d(self, name, spec, x):
        kernel, stride, padding = spec["kernel_size"], spec.get("stride", 1), spec.get("padding", 0)
        where = "VALID" if padding == 0 else "SAME"
        if padding and (stride > 1 or 2 * padding != kernel - 1):
            # "SAME" would pad strided images on the far side only.
            x, where = tf.pad(x, [[0, 0], [padding] * 2, [padding] * 2, [0, 0]]), "VALID"
        weight = self.params[name + "weight"]
        if self.depthwise(name + "weight"):
            y = tf.nn.depthwise_conv2d(x, weight, (1, stride, stride, 1), where)
        else:
            y = tf.nn.conv2d(x, weight, stride, where)
        return tf.nn.bias_add(y, self.params[name + "bias"]) if name + "bias" in self.params else y

    def conv1d(self, name, spec, x):
        """Of as many positions as before."""
        y = tf.nn.convolution(x, self.params[name + "weight"], padding="SAME", dilations=[spec.get("dilation", 1)])
        return tf.nn.bias_add(y, self.params[name + "bias"])

    def conv_transpose2d(self, name, spec, x):
        weight, stride = self.params[name + "weight"], spec["stride"]
        after = [(size - 1) * stride + spec["kernel_size"] for size in x.shape[1:3]]
        y = tf.nn.conv2d_transpose(x, weight, (x.shape[0], *after, spec["out_channels"]), stride, "VALID")
        return tf.nn.bias_add(y, self.params[name + "bias"])

    def batch_norm(self, name, x):
        of = lambda part: self.variables[name + part]
        y, mean, variance = tf.compat.v1.nn.fused_batch_norm(x, of("weight"), of("bias"), epsilon=EPS, is_training=True)
        of("running_mean").assign(0.9 * of("running_mean") + 0.1 * mean)
        of("running_var").assign(0.9 * of("running_var") + 0.1 * variance)
        return y

    def layer_norm(self, name, x):
        mean, variance = tf.nn.moments(x, -1, keepdims=True)
        return (x - mean) * tf.math.rsqrt(variance + EPS) * self.params[name + "weight"] + self.params[name + "bias"]

    def lstm(self, name, spec, x):
        part = lambda end: self.params[f"{name}{end}_l0"]
        rows, steps, hidden = x.shape[0], x.shape[1], spec["hidden_size"]
        by_time = tf.reshape(tf.transpose(x, (1, 0, 2)), (steps * rows, -1))
        projected = tf.matmul(by_time, part("weight_ih")) + (part("bias_ih") + part("bias_hh"))
        h = c = tf.zeros((rows, hidden))
        sequence = []
        for now in tf.unstack(tf.reshape(projected, (steps, rows, 4 * hidden))):
            i, f, g, o = tf.split(now + tf.matmul(h, part("weight_hh")), 4, -1)
            c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
            h = tf.sigmoid(o) * tf.tanh(c)
            sequence.append(h)
        return h if spec.get("last_step", False) else tf.transpose(tf.stack(sequence), (1, 0, 2))

    def gru(self, name, spec, x):
        """Every hidden state; both directions side by side."""
        directions = [self.gru_direction(name, spec, x, "")]
        if spec.get("bidirectional", False):
            directions.append(self.gru_direction(name, spec, x[:, ::-1], "_reverse")[:, ::-1])
        return tf.concat(directions, -1)

    def gru_direction(self, name, spec, x, direction):
        part = lambda end: self.params[f"{name}{end}_l0{direction}"]
        rows, steps, hidden = x.shape[0], x.shape[1], spec["hidden_size"]
        by_time = tf.reshape(tf.transpose(x, (1, 0, 2)), (steps * rows, -1))
        projected = tf.matmul(by_time, part("weight_ih")) + part("bias_ih")
        h, sequence = tf.zeros((rows, hidden)), []
        for now in tf.unstack(tf.reshape(projected, (steps, rows, 3 * hidden))):
            (r, z, n), (of_r, of_z, of_n) = tf.split(now, 3, -1), tf.split(tf.matmul(h, part("weight_hh")) + part("bias_hh"), 3, -1)
            n = tf.tanh(n + tf.sigmoid(r + of_r) * of_n)
            h = n + tf.sigmoid(z + of_z) * (h - n)
            sequence.append(h)
        return tf.transpose(tf.stack(sequence), (1, 0, 2))

    def attention(self, name, spec, x, shape):
        n, t, e = shape
        heads = spec["num_heads"]
        projected = tf.reshape(self.linear(name, x, "in_proj_weight", "in_proj_bias"), (n, t, 3, heads, e // heads))
        q, k, v = tf.unstack(tf.transpose(projected, (2, 0, 3, 1, 4)))
        scores = tf.matmul(q, k, transpose_b=True) / math.sqrt(e // heads)
        if spec.get("causal", False):
            scores += np.triu(np.full((t, t), -1e30, np.float32), 1)
        mixed = tf.matmul(self.drop(tf.nn.softmax(scores), dropout_of(spec)), v)
        return self.linear(name + "out_proj.", tf.reshape(tf.transpose(mixed, (0, 2, 1, 3)), (n * t, e)))

    def transformer_block(self, name, spec, x):
        """Tokens are rows of one matrix throughout."""
        shape = x.shape
        drop = lambda x: self.drop(x, dropout_of(spec))
        attend = lambda x: drop(self.attention(name + "self_attn.", spec, x, shape))
        activation = ACTIVATIONS[spec.get("activation", "relu")]
        feed_forward = lambda x: drop(self.linear(name + "linear2.", drop(activation(self.linear(name + "linear1.", x)))))
        norm1, norm2 = (lambda x, i=i: self.layer_norm(f"{name}norm{i}.", x) for i in (1, 2))
        x = tf.reshape(x, (-1, shape[-1]))
        if spec.get("norm_first", False):
            x = x + attend(norm1(x))
            x = x + feed_forward(norm2(x))
        else:
            x = norm1(x + attend(x))
            x = norm2(x + feed_forward(x))
        return tf.reshape(x, shape)


def loss_of(kind, output, target):
    """The mean loss of a batch."""
    if kind == "cross_entropy":
        flat, labels = tf.reshape(output, (-1, output.shape[-1])), tf.reshape(target, (-1,))
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, flat))
    assert kind == "mse", kind
    return tf.reduce_mean(tf.square(output - tf.reshape(target, output.shape)))


class Optimizer:
    """The optimizer of a configuration, by TensorFlow's kernels."""

    def __init__(self, spec, params):
        self.spec, self.params = spec, params
        slots = {"sgd": int(bool(spec.get("momentum"))), "adam": 2, "adamw": 2}[spec["type"]]
        self.slots = [[tf.Variable(tf.zeros_like(p)) for p in params] for _ in range(slots)]
        self.betas = spec.get("betas", (0.9, 0.999))
        self.powers = [tf.Variable(beta, dtype=tf.float32) for beta in self.betas] if slots == 2 else []
        if spec["type"] != "adamw" and spec.get("weight_decay"):
            raise ValueError("weight_decay is done for adamw alone")

    def reset(self):
        for slot in (slot for kind in self.slots for slot in kind):
            slot.assign(tf.zeros_like(slot))
        for power, beta in zip(self.powers, self.betas):
            power.assign(beta)

    def apply(self, grads):
        for number, (param, grad) in enumerate(zip(self.params, grads)):
            self.update(param, tf.convert_to_tensor(grad), [kind[number].handle for kind in self.slots])
        for power, beta in zip(self.powers, self.betas):
            power.assign(power * beta)

    def update(self, param, grad, slots):
        rate, var = self.spec["learning_rate"], param.handle
        if not slots:
            tf.raw_ops.ResourceApplyGradientDescent(var=var, alpha=rate, delta=grad)
        elif len(slots) == 1:
            momentum, nesterov = self.spec["momentum"], self.spec.get("nesterov", False)
            tf.raw_ops.ResourceApplyMomentum(var=var, accum=slots[0], lr=rate, grad=grad, momentum=momentum, use_nesterov=nesterov)
        else:
            if self.spec["type"] == "adamw":
                param.assign(param * (1 - rate * self.spec.get("weight_decay", 0.01)))
            of = dict(zip(("m", "v", "beta1_power", "beta2_power", "beta1", "beta2"), (*slots, *self.powers, *self.betas)))
            # TensorFlow adds epsilon before the correction of the second moment, others after it.
            epsilon = self.spec.get("eps", 1e-8) * tf.sqrt(1 - self.powers[1])
            tf.raw_ops.ResourceApplyAdam(var=var, grad=grad, lr=rate, epsilon=epsilon, **of)


class TensorFlow(Engine):
    version = tf.__version__

    def __init__(self, arguments):
        self.xla = arguments.xla
        self.name = "tf-xla" if self.xla else "tf"
        if arguments.device == "cpu":
            tf.config.set_visible_devices([], "GPU")
        if arguments.threads:
            tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)

    def device(self):
        return (tf.config.get_visible_devices("GPU") or tf.config.get_visible_devices("CPU"))[0].name

    def build(self, config, weights, batches, precision, dropout):
        tf.config.experimental.enable_tensor_float_32_execution(precision == "tf32")
        self.weights = weights
        self.batches = [(tf.constant(codes(config, x)), tf.constant(y)) for x, y in batches]
        self.network = Network(config, weights, self.batches[0][0], dropout)
        params = list(self.network.params.values())
        self.optimizer = Optimizer(config["optimizer"], params)

        def train(x, y):
            with tf.GradientTape() as tape:
                loss = loss_of(config["loss"]["type"], self.network.forward(x), y)
            grads = tape.gradient(loss, params)
            if limit := config["train"].get("clip_norm"):
                grads, _ = tf.clip_by_global_norm(grads, limit)
            self.optimizer.apply(grads)
            return loss

        self.train = tf.function(train, autograph=False, jit_compile=self.xla)

    def reset(self):
        self.network.load(self.weights)
        self.optimizer.reset()

    def step(self, number):
        return self.train(*self.batches[number % len(self.batches)])


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--xla", action="store_true", help="compile the step with XLA")
    main(TensorFlow, arguments.parse_args())
