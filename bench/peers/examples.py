"""PyTorch twins of the worked examples: the same networks, first values, splits, epochs and schedules.

    cargo xtask data fashion-mnist shakespeare diamonds breast-cancer weather movielens
    python bench/peers/examples.py text-generation --seeds 1 2 3

Each example is one function below, the twin of the configuration named in its first line; change both together. Prints one JSON line
per seed. A seed holds out other rows and draws other numbers than the same seed of backprop.
"""

import argparse
import csv
import gzip
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

DATA = Path(__file__).parents[2] / "data"


def idx(name):
    """One gzipped IDX file of unsigned bytes as a tensor."""
    raw = gzip.open(DATA / "fashion-mnist" / name).read()
    shape = np.frombuffer(raw, ">i4", count=raw[3], offset=4)
    return torch.tensor(np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape))


def shuffled_split(rows, share, generator):
    """Indices kept and held out at random."""
    order = torch.randperm(rows, generator=generator)
    held = round(share * rows)
    return order[held:], order[:held]


def flipped(images, generator):
    """Every second image mirrored, at random; [N, C, H, W]."""
    mirrored = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(mirrored, images.flip(3), images)


def run_epoch(model, parts, batch, generator, loss_of, optimizer, schedule, clip):
    """One pass in a fresh random order, the smaller last batch included; returns the mean loss."""
    rows, total = len(parts[0]), 0.0
    for index in torch.randperm(rows, generator=generator).split(batch):
        loss = loss_of(model, *(part[index] for part in parts))
        optimizer.zero_grad()
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        schedule.step()
        total += loss.item() * len(index)
    return total / rows


def fit(model, parts, training, generator, loss_of, evaluate):
    """Trains, printing each epoch's loss and figures; returns those of the epoch that did best on validation, by accuracy if measured."""
    batch, epochs = training["batch"], training["epochs"]
    steps = -(-len(parts[0]) // batch) * epochs
    optimizer = training["optimizer"](model.parameters())
    schedule = training["schedule"](optimizer, steps)
    all_figures = []
    for epoch in range(epochs):
        start = time.perf_counter()
        loss = run_epoch(model.train(), parts, batch, generator, loss_of, optimizer, schedule, training.get("clip"))
        figures = {"train_loss": loss, **evaluate(model.eval()), "epoch_s": time.perf_counter() - start}
        print(f"epoch {epoch + 1}/{epochs}: " + ", ".join(f"{k} {v:.4f}" for k, v in figures.items()), flush=True)
        all_figures.append(figures)
    if "validation_accuracy" in figures:
        return max(all_figures, key=lambda figures: figures["validation_accuracy"])
    return min(all_figures, key=lambda figures: figures.get("validation_rmse", figures.get("validation_loss")))


def one_cycle(optimizer, steps, pct_start=0.3):
    rate = optimizer.param_groups[0]["lr"]
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=pct_start, cycle_momentum=False)


def evaluated(model, x, batch=500):
    """The model's outputs in evaluation mode."""
    with torch.no_grad():
        return torch.cat([model(part) for part in x.split(batch)])


def classification(model, parts):
    """Loss and accuracy of each named part."""
    figures = {}
    for name, (x, y) in parts.items():
        logits = evaluated(model, x)
        figures[f"{name}_loss"] = F.cross_entropy(logits.flatten(0, -2), y.flatten()).item()
        figures[f"{name}_accuracy"] = (logits.argmax(-1) == y).float().mean().item()
    return figures


class Residual(nn.Module):
    """Two convolutions beside the identity or, where the shape changes, a convolution of extent 1."""

    def __init__(self, channels, out, stride):
        super().__init__()
        conv = lambda i, kernel, stride, padding: nn.Conv2d(i, out, kernel, stride, padding, bias=False)
        self.body = nn.Sequential(
            conv(channels, 3, stride, 1), nn.BatchNorm2d(out), nn.ReLU(), conv(out, 3, 1, 1), nn.BatchNorm2d(out)
        )
        self.shortcut = nn.Sequential(conv(channels, 1, stride, 0), nn.BatchNorm2d(out)) if (channels, stride) != (out, 1) else nn.Identity()

    def forward(self, x):
        return F.relu(self.body(x) + self.shortcut(x))


def image_classification(seed, generator):
    """examples/image-classification.toml"""
    images, classes = idx("train-images-idx3-ubyte.gz").unsqueeze(1), idx("train-labels-idx1-ubyte.gz").long()
    kept, held = shuffled_split(len(images), 0.05, generator)
    pixels = images[kept].float()
    mean, std = pixels.mean(), pixels.std()
    scale = lambda x: (x.float() - mean) / std
    stem = nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10)
    model = nn.Sequential(*stem, Residual(32, 64, 1), Residual(64, 128, 2), *head)
    test = idx("t10k-images-idx3-ubyte.gz").unsqueeze(1), idx("t10k-labels-idx1-ubyte.gz").long()
    parts = {"validation": (scale(images[held]), classes[held]), "test": (scale(test[0]), test[1])}
    loss_of = lambda model, x, y: F.cross_entropy(model(scale(flipped(x, generator))), y)
    training = {
        "epochs": 8,
        "batch": 128,
        "optimizer": lambda p: torch.optim.SGD(p, lr=0.2, momentum=0.9, nesterov=True, weight_decay=5e-4),
        "schedule": lambda o, steps: one_cycle(o, steps, 0.25),
    }
    return fit(model, (images[kept], classes[kept]), training, generator, loss_of, lambda m: classification(m, parts))


def tail_split(rows, share):
    """Rows before, and rows of, the end."""
    held = round(share * rows)
    return rows - held, held


def text_generation(seed, generator):
    """examples/text-generation.toml"""
    text = (DATA / "shakespeare" / "plays.txt").read_text(encoding="utf-8")
    characters = sorted(set(text))
    codes = {c: i for i, c in enumerate(characters)}
    tokens = torch.tensor([codes[c] for c in text])
    length = 64
    rows = (len(tokens) - length - 1) // length + 1
    x, y = tokens[: rows * length].view(rows, length), tokens[1 : rows * length + 1].view(rows, length)
    rest, test = tail_split(rows, 0.1)
    train, validation = tail_split(rest, 0.1)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(len(characters), 64)
            self.lstm = nn.LSTM(64, 256, batch_first=True)
            self.linear = nn.Linear(256, len(characters))

        def forward(self, x):
            return self.linear(self.lstm(self.embedding(x))[0])

    parts = {"validation": (x[train:rest], y[train:rest]), "test": (x[rest:], y[rest:])}
    loss_of = lambda model, x, y: F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    training = {"epochs": 2, "batch": 64, "optimizer": lambda p: torch.optim.Adam(p, lr=3e-3), "schedule": one_cycle, "clip": 1.0}
    return fit(Network(), (x[:train], y[:train]), training, generator, loss_of, lambda m: classification(m, parts))


def table(path, numbers, categories=()):
    """Columns of a CSV file: numbers [N, columns], and codes [N, columns] of sorted categories."""
    rows = list(csv.DictReader(open(DATA / path, newline="")))
    words = [sorted({row[c] for row in rows}) for c in categories]
    codes = [[values.index(row[c]) for c, values in zip(categories, words)] for row in rows]
    return torch.tensor([[float(row[c]) for c in numbers] for row in rows]), torch.tensor(codes)


def names(path):
    """The names of the columns of a CSV file."""
    return (DATA / path).read_text().split("\n", 1)[0].split(",")


def standard(x, kept):
    """Columns by the mean and deviation of the rows `kept`."""
    return (x - x[kept].mean(0)) / x[kept].std(0, correction=0)


def regression(model, parts, mean, std):
    """Errors of each part in the unit of the target, which the model sees as (y - mean) / std."""
    figures = {}
    for name, (x, y) in parts.items():
        error = (evaluated(model, x, 4096) - y) * std
        figures[f"{name}_mae"] = error.abs().mean().item()
        figures[f"{name}_rmse"] = error.square().mean().sqrt().item()
        figures[f"{name}_r2"] = 1 - (error.square().sum() / ((y - y.mean(0)) * std).square().sum()).item()
    return figures


def adam(rate, **options):
    return lambda parameters: torch.optim.Adam(parameters, lr=rate, **options)


def squared_error(model, x, y):
    return F.mse_loss(model(x), y)


class Columns(nn.Module):
    """Codes in the last columns of [N, F] replaced by rows of tables, beside the numbers before them."""

    def __init__(self, sizes, dim):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, dim) for size in sizes)

    def forward(self, x):
        numbers, codes = x[:, : -len(self.tables)], x[:, -len(self.tables) :].long()
        return torch.cat([numbers, *(table(codes[:, i]) for i, table in enumerate(self.tables))], 1)


def dense(*widths):
    """Linear layers of these widths with ReLU between them."""
    layers = [layer for i, o in zip(widths, widths[1:]) for layer in (nn.Linear(i, o), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def tabular_regression(seed, generator):
    """examples/tabular-regression.toml"""
    numbers, codes = table("diamonds/diamonds.csv", ["price", "carat", "depth", "table"], ["cut", "color", "clarity"])
    rest, test = shuffled_split(len(numbers), 0.2, torch.Generator().manual_seed(0))
    kept, held = shuffled_split(len(rest), 0.1, generator)
    kept, held = rest[kept], rest[held]
    mean, std = numbers[kept, 0].mean(), numbers[kept, 0].std()
    scaled = standard(numbers, kept)
    x, y = torch.cat([scaled[:, 1:], codes], 1), scaled[:, :1]
    parts = {"validation": (x[held], y[held]), "test": (x[test], y[test])}
    model = nn.Sequential(Columns([5, 7, 8], 4), dense(3 + 12, 128, 64, 1))
    training = {"epochs": 30, "batch": 256, "optimizer": adam(5e-3), "schedule": one_cycle}
    return fit(model, (x[kept], y[kept]), training, generator, squared_error, lambda m: regression(m, parts, mean, std))


def tabular_classification(seed, generator):
    """examples/tabular-classification.toml"""
    path = "breast-cancer/breast-cancer.csv"
    numbers, codes = table(path, names(path)[:-2], ["diagnosis", "part"])
    rest, test = ((codes[:, 1] == code).nonzero()[:, 0] for code in (1, 0))
    kept, held = shuffled_split(len(rest), 0.1, generator)
    kept, held = rest[kept], rest[held]
    x, y = standard(numbers, kept), codes[:, 0]
    parts = {"validation": (x[held], y[held]), "test": (x[test], y[test])}
    training = {"epochs": 40, "batch": 32, "optimizer": lambda p: torch.optim.AdamW(p, lr=3e-3, weight_decay=0.05), "schedule": one_cycle}
    model = nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 2))
    loss_of = lambda model, x, y: F.cross_entropy(model(x), y)
    return fit(model, (x[kept], y[kept]), training, generator, loss_of, lambda m: classification(m, parts))


def series(path, columns, group):
    """The series of a CSV file, one [T, columns] for each value of the column `group`; the value before stands for a missing one."""
    found = {}
    for row in csv.DictReader(open(DATA / path, newline="")):
        rows = found.setdefault(row[group], [])
        rows.append([rows[-1][i] if row[c] == "NA" else float(row[c]) for i, c in enumerate(columns)])
    return [torch.tensor(rows) for rows in found.values()]


def windows(series, length, horizon):
    """All windows of `length` rows of [T, columns], and the first column of the `horizon` rows after each."""
    start = torch.arange(max(0, len(series) - length - horizon + 1))[:, None]
    return series[start + torch.arange(length)], series[:, 0][start + length + torch.arange(horizon)]


def persistence(parts, std):
    """Errors of the forecast that nothing changes."""
    for name, (x, y) in parts.items():
        error = (x[:, -1:, 0] - y) * std
        mae, rmse = error.abs().mean().item(), error.square().mean().sqrt().item()
        print(f"persistence, {name}: mae {mae:.4f}, rmse {rmse:.4f}, mse in units of the training variance {(rmse / std) ** 2:.4f}")


def time_series(seed, generator):
    """examples/time-series.toml"""
    length, horizon = 48, 24
    found = series("weather/weather.csv", ["temp", "dewp", "humid"], "origin")
    cut = [(len(s) - round(0.2 * len(s)), s) for s in found]
    cut = [(end - round(0.1 * end), end, s) for end, s in cut]
    train = torch.cat([s[:start] for start, _, s in cut])
    mean, std = train.mean(0), train.std(0, correction=0)
    of = lambda part: [torch.cat(t) for t in zip(*(windows((part(*c) - mean) / std, length, horizon) for c in cut))]
    x, y = of(lambda start, end, s: s[:start])
    parts = {"validation": of(lambda start, end, s: s[start:end]), "test": of(lambda start, end, s: s[end:])}
    persistence(parts, std[0].item())

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(3, 64, batch_first=True)
            self.linear = nn.Linear(64, horizon)

        def forward(self, x):
            return self.linear(self.lstm(x)[0][:, -1])

    training = {"epochs": 5, "batch": 64, "optimizer": adam(3e-3), "schedule": one_cycle, "clip": 1.0}
    return fit(Network(), (x, y), training, generator, squared_error, lambda m: regression(m, parts, mean[0], std[0]))


def anomaly_detection(seed, generator):
    """examples/anomaly-detection.toml"""
    columns = names("breast-cancer/benign.csv")
    benign, usual, malignant = (table(f"breast-cancer/{name}.csv", columns)[0] for name in ("benign", "benign-test", "malignant-test"))
    kept, held = shuffled_split(len(benign), 0.1, generator)
    mean, std = benign[kept].mean(0), benign[kept].std(0, correction=0)
    x, held, usual, malignant = ((part - mean) / std for part in (benign[kept], benign[held], usual, malignant))

    def figures(model):
        error = lambda x: (evaluated(model, x) - x).square().mean(1)
        benign, other = error(usual), error(malignant)
        return {
            "validation_loss": error(held).mean().item(),
            "benign_loss": benign.mean().item(),
            "malignant_loss": other.mean().item(),
            "auc": (other[:, None] > benign).float().mean().item(),
        }

    training = {"epochs": 100, "batch": 32, "optimizer": adam(3e-3), "schedule": one_cycle}
    return fit(dense(30, 16, 4, 16, 30), (x, x), training, generator, squared_error, figures)


def recommendation(seed, generator):
    """examples/recommendation.toml"""
    ratings, codes = table("movielens/ratings.csv", ["rating"], ["user", "movie"])
    rest, test = shuffled_split(len(ratings), 0.2, torch.Generator().manual_seed(0))
    kept, held = shuffled_split(len(rest), 0.1, generator)
    kept, held = rest[kept], rest[held]
    users, movies = (int(codes[:, i].max()) + 1 for i in (0, 1))

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            init = lambda table, std: nn.init.normal_(table.weight, std=std)
            self.user, self.movie = nn.Embedding(users, 16), nn.Embedding(movies, 16)
            self.user_bias, self.movie_bias = nn.Embedding(users, 1), nn.Embedding(movies, 1)
            self.dropout = nn.Dropout(0.5)
            self.linear = nn.Linear(16, 1)
            for part in (self.user, self.movie, self.user_bias, self.movie_bias):
                init(part, 0.05)

        def forward(self, codes):
            product = self.user(codes[:, 0]) * self.movie(codes[:, 1])
            return self.linear(self.dropout(product)) + self.user_bias(codes[:, 0]) + self.movie_bias(codes[:, 1])

    mean, std = ratings[kept].mean(), ratings[kept].std()
    y = (ratings - mean) / std
    parts = {"validation": (codes[held], y[held]), "test": (codes[test], y[test])}
    training = {"epochs": 10, "batch": 256, "optimizer": lambda p: torch.optim.AdamW(p, lr=3e-3, weight_decay=0.1), "schedule": one_cycle}
    return fit(Network(), (codes[kept], y[kept]), training, generator, squared_error, lambda m: regression(m, parts, mean, std))


EXAMPLES = [
    image_classification,
    text_generation,
    tabular_regression,
    tabular_classification,
    time_series,
    anomaly_detection,
    recommendation,
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = {example.__name__.replace("_", "-"): example for example in EXAMPLES}
    parser.add_argument("example", choices=names)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for seed in arguments.seeds:
        torch.manual_seed(seed)
        start = time.perf_counter()
        figures = names[arguments.example](seed, torch.Generator().manual_seed(seed))
        figures = {key: round(value, 4) for key, value in figures.items() if key != "epoch_s"}
        print(json.dumps({"seed": seed, **figures, "wall_s": round(time.perf_counter() - start, 1)}), flush=True)


if __name__ == "__main__":
    main()
