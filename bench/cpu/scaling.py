"""Time per sample by batch size, and time per layer by depth: a table, and a plot as SVG.

    python bench/cpu/scaling.py --backprop target/release/backprop --out bench/cpu/scaling.svg
"""

import argparse
import json
import re
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
BATCHES = [32, 64, 128, 256, 512, 1024]
DEPTHS = [4, 8, 16, 32, 64]
MODELS = {"W1 MLP": "w1", "W2 CNN": "w2", "W7 autoencoder": "w7", "W8 MobileNet": "w8"}
LAYERS = {
    "linear 256, batch 128": ("[[layers]]\ntype = \"linear\"\nout_features = 256\n[[layers]]\ntype = \"relu\"\n", 128, 'source = "clusters"\nfeatures = 256\n'),
    "conv 3×3, 32, 16², batch 32": (
        "[[layers]]\ntype = \"conv2d\"\nout_channels = 32\nkernel_size = 3\npadding = 1\n[[layers]]\ntype = \"relu\"\n",
        32,
        'source = "images"\nheight = 16\nwidth = 16\nchannels = 32\n',
    ),
}
LIMIT = 1.25
"""The most that time per sample or layer may rise."""


def step(backprop, config, threads, seconds, *more):
    """Milliseconds of a step: the median."""
    command = [backprop, "bench", "step", config, "--threads", str(threads), "--seconds", str(seconds), "--json", *more]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["step_ms_median"]


def deep(name, depth):
    """A configuration of so many equal layers."""
    layer, batch, data = LAYERS[name]
    flatten = '[[layers]]\ntype = "global_avg_pool"\n' if "conv" in layer else ""
    end = '[[layers]]\ntype = "linear"\nout_features = 10\n[loss]\ntype = "cross_entropy"\n[optimizer]\ntype = "sgd"\nlearning_rate = 0.01\n'
    return f"[data]\n{data}classes = 10\nrows = {16 * batch}\n{layer * depth}{flatten}{end}[train]\nbatch_size = {batch}\n"


def large(model):
    """A workload with rows for the largest batch."""
    return re.sub(r"(?m)^rows = \d+", f"rows = {2 * BATCHES[-1]}", (HERE / f"{model}.toml").read_text())


def measured(arguments, text, *more):
    """Microseconds of a step of a configuration."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
        config.write(text)
        config.flush()
        return 1e3 * step(arguments.backprop, config.name, arguments.threads, arguments.seconds, *more)


def by_batch(arguments):
    """Microseconds per sample: for each model, by batch."""
    one = lambda model, batch: measured(arguments, large(model), "--batch", str(batch)) / batch
    return {name: [one(model, batch) for batch in BATCHES] for name, model in MODELS.items()}


def by_depth(arguments):
    """Microseconds per layer: for each kind, by depth."""
    return {name: [measured(arguments, deep(name, depth)) / depth for depth in DEPTHS] for name in LAYERS}


def table(title, columns, rows):
    """A table of Markdown, with the largest rise over a smaller column at its end."""
    print(f"\n| {title} | " + " | ".join(map(str, columns)) + " | largest rise |\n|" + "---|" * (len(columns) + 2))
    for name, values in rows.items():
        rise = max(later / earlier for i, earlier in enumerate(values) for later in values[i:])
        print(f"| {name} | " + " | ".join(f"{v:.3g}" for v in values) + f" | {'' if rise <= LIMIT else '**'}{100 * (rise - 1):.0f} %{'' if rise <= LIMIT else '**'} |")


COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"]
"""Of Okabe and Ito: told apart by everybody."""
WIDTH, HEIGHT, LEFT, TOP = 330, 230, 60, 50


def panel(x0, title, unit, columns, rows):
    """Lines over equally spaced columns, relative to the first one."""
    top = max(LIMIT, *(v / values[0] for values in rows.values() for v in values)) * 1.1
    at = lambda i, share: (x0 + LEFT + i * WIDTH / (len(columns) - 1), TOP + HEIGHT * (1 - share / top))
    text = lambda x, y, what, more="": f'<text x="{x:.0f}" y="{y:.0f}" {more}>{what}</text>'
    middle, end = 'text-anchor="middle"', 'text-anchor="end"'
    lines = [text(x0 + LEFT + WIDTH / 2, 22, title, f'{middle} font-weight="bold"'), text(x0 + LEFT + WIDTH / 2, TOP + HEIGHT + 40, unit, middle)]
    for share in [0, 0.25, 0.5, 0.75, 1, 1.25]:
        (left, y), (right, _) = at(0, share), at(len(columns) - 1, share)
        dash = ' stroke-dasharray="5 4"' if share == LIMIT else ""
        lines.append(f'<line x1="{left:.0f}" y1="{y:.1f}" x2="{right:.0f}" y2="{y:.1f}" stroke="{"#888" if dash else "#ddd"}"{dash}/>')
        lines.append(text(left - 8, y + 4, f"{share:g}", end))
    lines += [text(at(i, 0)[0], TOP + HEIGHT + 20, column, middle) for i, column in enumerate(columns)]
    for k, (name, values) in enumerate(rows.items()):
        points = [at(i, v / values[0]) for i, v in enumerate(values)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        lines.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[k]}" stroke-width="2"/>')
        lines += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{COLOURS[k]}"/>' for x, y in points]
        lines.append(text(x0 + LEFT + 10, TOP + HEIGHT - 12 - 17 * k, name, f'fill="{COLOURS[k]}"'))
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backprop", default="target/release/backprop")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    batches, depths = by_batch(arguments), by_depth(arguments)
    table("µs per sample, by batch", BATCHES, batches)
    table("µs per layer, by layers", DEPTHS, depths)
    if arguments.out:
        lines = panel(0, "Time per sample, batch 32 = 1", "batch", BATCHES, batches)
        lines += panel(LEFT + WIDTH + 20, "Time per layer, 4 layers = 1", "layers", DEPTHS, depths)
        size = f'width="{2 * (LEFT + WIDTH) + 50}" height="{TOP + HEIGHT + 55}"'
        body = "\n".join(lines)
        arguments.out.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12" fill="#222">\n'
            f'<rect width="100%" height="100%" fill="#fff"/>\n{body}\n</svg>\n'
        )


if __name__ == "__main__":
    main()
