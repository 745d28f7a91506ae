"""PyTorch twin of `backprop train` without a configuration: the same network, schedule, epochs and data.

    python bench/peers/default_train.py            five seeds, one line each, then the medians

NETWORK and TRAINING below are the twin of models/cnn-fashion.toml; change both together. Prints validation and test
accuracy of the weights after the last epoch: the test set decides nothing.
"""

import argparse
import gzip
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

DATA = Path(__file__).parents[2] / "crates" / "backprop-data" / "data" / "fashion-4k"

NETWORK = [
    {"layer": "Conv2d", "out": 16, "kernel": 3, "padding": 1, "bias": False},
    {"layer": "BatchNorm"},
    {"layer": "ReLU"},
    {"layer": "MaxPool2d", "kernel": 2},
    {"layer": "Dropout", "p": 0.1},
    {"layer": "Conv2d", "out": 32, "kernel": 3, "padding": 1, "bias": False},
    {"layer": "BatchNorm"},
    {"layer": "ReLU"},
    {"layer": "MaxPool2d", "kernel": 2},
    {"layer": "Dropout", "p": 0.2},
    {"layer": "Conv2d", "out": 64, "kernel": 3, "padding": 1, "bias": False},
    {"layer": "BatchNorm"},
    {"layer": "ReLU"},
    {"layer": "Dropout", "p": 0.3},
    {"layer": "Flatten"},
    {"layer": "Linear", "out": 128},
    {"layer": "ReLU"},
    {"layer": "Dropout", "p": 0.5},
    {"layer": "Linear", "out": 10},
]

TRAINING = {
    "epochs": 20,
    "batch": 64,
    "validation": 300,
    "optimizer": "AdamW",
    "lr": 3e-3,
    "weight_decay": 0.05,
    "schedule": "one_cycle",
    "warm_up": 0.3,
}


def idx(name):
    """One gzipped IDX file of unsigned bytes as an array."""
    raw = gzip.open(DATA / name).read()
    shape = np.frombuffer(raw, ">i4", count=raw[3], offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def load(part):
    """Images in [0, 1] as [N, 1, H, W], and classes."""
    images = torch.tensor(idx(f"{part}-images-idx3-ubyte.gz")).float().div(255).unsqueeze(1)
    return images, torch.tensor(idx(f"{part}-labels-idx1-ubyte.gz")).long()


def build_layer(spec, shape):
    """The PyTorch module of one entry for input [C, H, W] (or [features])."""
    kind, channels = spec["layer"], shape[0]
    if kind == "Conv2d":
        return nn.Conv2d(channels, spec["out"], spec["kernel"], spec.get("stride", 1), spec.get("padding", 0), groups=spec.get("groups", 1), bias=spec.get("bias", True))
    if kind == "Linear":
        return nn.Linear(channels, spec["out"], bias=spec.get("bias", True))
    if kind == "BatchNorm":
        return nn.BatchNorm2d(channels) if len(shape) == 3 else nn.BatchNorm1d(channels)
    return {
        "ReLU": nn.ReLU,
        "Flatten": nn.Flatten,
        "MaxPool2d": lambda: nn.MaxPool2d(spec["kernel"], spec.get("stride"), spec.get("padding", 0)),
        "Dropout": lambda: nn.Dropout(spec["p"]),
    }[kind]()


def build(network, shape):
    """A Sequential whose layers infer their input sizes by tracing a zero image."""
    layers, probe = [], torch.zeros(1, *shape)
    for spec in network:
        layers.append(build_layer(spec, probe.shape[1:]).eval())
        with torch.no_grad():
            probe = layers[-1](probe)
    return nn.Sequential(*layers)


def multiply_adds(model, shape):
    """Multiply-adds of one image's forward pass through products and convolutions."""
    total = 0

    def count(module, _, output):
        nonlocal total
        total += module.weight.numel() // module.weight.shape[0] * output[0].numel()

    handles = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    model.eval()(torch.zeros(1, *shape))
    for handle in handles:
        handle.remove()
    return total


def rate_schedule(optimizer, training, steps):
    """Per-step schedule; warm_up is the share of the steps with a rising rate."""
    if training["schedule"] == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, training["lr"], total_steps=steps, pct_start=training["warm_up"], cycle_momentum=False)
    assert training["schedule"] == "cosine"
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)


def make_optimizer(parameters, training):
    options = {"lr": training["lr"], "weight_decay": training["weight_decay"]}
    if training["optimizer"] == "SGD":
        return torch.optim.SGD(parameters, momentum=training["momentum"], nesterov=True, **options)
    return torch.optim.AdamW(parameters, **options)


def accuracy(model, images, classes):
    """Share of right predictions, and mean cross-entropy, in evaluation mode."""
    with torch.no_grad():
        logits = torch.cat([model.eval()(part) for part in images.split(500)])
    return (logits.argmax(1) == classes).float().mean().item(), F.cross_entropy(logits, classes).item()


def split(images, classes, validation, generator):
    """Random validation part; the pixels are normalised with the training part's mean and deviation."""
    order = torch.randperm(len(images), generator=generator)
    held, kept = order[:validation], order[validation:]
    mean, deviation = images[kept].mean(), images[kept].std()
    normalise = lambda x: (x - mean) / deviation
    return (normalise(images[kept]), classes[kept]), (normalise(images[held]), classes[held]), normalise


def train(seed, network, training):
    """One run; returns its figures."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    (x, y), held, normalise = split(*load("train"), training["validation"], generator)
    model = build(network, x.shape[1:])
    forward = multiply_adds(model, x.shape[1:])
    optimizer = make_optimizer(model.parameters(), training)
    steps = -(-len(x) // training["batch"]) * training["epochs"]
    schedule = rate_schedule(optimizer, training, steps)
    start, last = time.perf_counter(), 0.0
    for _ in range(training["epochs"]):
        last = epoch(model.train(), x, y, optimizer, schedule, training["batch"], generator)
    wall = time.perf_counter() - start
    validation_accuracy, validation_loss = accuracy(model, *held)
    images, classes = load("t10k")
    test_accuracy, test_loss = accuracy(model, normalise(images), classes)
    return {
        "seed": seed,
        "train_loss": round(last, 4),
        "validation_accuracy": round(validation_accuracy, 4),
        "validation_loss": round(validation_loss, 4),
        "test_accuracy": round(test_accuracy, 4),
        "test_loss": round(test_loss, 4),
        "wall_s": round(wall, 1),
        "steps": steps,
        "parameters": sum(p.numel() for p in model.parameters()),
        # Backward costs twice the forward pass; a multiply-add is two operations.
        "training_flop": 6 * forward * len(x) * training["epochs"],
    }


def epoch(model, x, y, optimizer, schedule, batch, generator):
    """One pass in a fresh random order, the smaller last batch included; returns the mean loss."""
    total = 0.0
    for index in torch.randperm(len(x), generator=generator).split(batch):
        loss = F.cross_entropy(model(x[index]), y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item() * len(index)
    return total / len(x)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    runs = []
    for seed in arguments.seeds:
        runs.append(train(seed, NETWORK, TRAINING))
        print(json.dumps(runs[-1]), flush=True)
    median = lambda key: statistics.median(run[key] for run in runs)
    print(json.dumps({f"median_{key}": median(key) for key in ("validation_accuracy", "test_accuracy", "test_loss", "wall_s")}))


if __name__ == "__main__":
    main()
