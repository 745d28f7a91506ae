"""Times a training step in backprop, JAX and PyTorch on one device, in turns, and compares the losses of the first steps.

    backprop bench export models/gpt-text.toml --out inputs/gpt-text      (once for each model)
    python bench/accelerators/run.py --backprop target/release/backprop --inputs inputs --out results --seconds-total 360

For each precision and model every engine prepares in its turn (compiles, warms up, gives the losses of its first steps without dropout);
then they are timed in rounds, every second one in reverse order. Writes results.jsonl as it goes, and table.md at the end. What the time
does not suffice for is left out, and said.

The protocol of the engines is described at the top of ../common/server.py. backprop follows it with `bench step --serve --device DEVICE`. Three
engines share one device's memory: each must take no more than 0.3 of it ahead. With --once it is instead started anew for each round, as
`bench step CONFIG --device D --precision P --weights F --data F --seconds S --json`, which prints loss_first, loss_step10, step_ms_median,
step_ms_p10, step_ms_p90, compile_s and steps; single runs of the twins print the same.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "common"))

from engine import drops
from server import Failure, Server
from table import tables

HERE = Path(__file__).parent
LOSSES = 10
"""First steps whose losses are compared."""
SHORTEST = 0.3
"""Seconds of timing below which a round is not worth it."""


class Once:
    """backprop, started anew for every request; the same answers."""

    def __init__(self, name, command):
        self.name, self.command, self.job = name, command, None

    def start(self):
        pass

    def stop(self):
        pass

    def ask(self, request, seconds):
        if "model" in request:
            self.job = request
            return {"engine": self.name, "model": Path(request["model"]).stem, "precision": request["precision"]}
        job = self.job
        command = [*self.command, job["model"], *(part for name in ("precision", "weights", "data") for part in (f"--{name}", job[name]))]
        command += ["--seconds", str(request.get("window", SHORTEST)), "--json"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=max(1.0, seconds), check=True)
            answer = json.loads(done.stdout.splitlines()[-1])
        except (subprocess.SubprocessError, OSError, ValueError, IndexError) as error:
            raise Failure(f"{error!r} {getattr(error, 'stderr', '')}") from None
        if "losses" in request:
            between = [None] * (request["losses"] - 2)
            return {"losses": [answer["loss_first"], *between, answer["loss_step10"]]}
        return {"step_ms": [answer[f"step_ms_{part}"] for part in ("p10", "median", "p90")], "steps": answer["steps"]}


class Run:
    """All engines, what they have answered, and how much time is left."""

    def __init__(self, arguments, engines):
        self.arguments, self.engines = arguments, engines
        self.end = time.monotonic() + arguments.seconds_total
        self.results = open(arguments.out / "results.jsonl", "a")

    def left(self):
        return self.end - time.monotonic()

    def record(self, kind, job, engine, answer, **more):
        # An engine is called what it was asked for as: two of them may be one program.
        row = {**answer, **more, "kind": kind, "engine": engine.name, "model": Path(job["model"]).stem, "precision": job["precision"]}
        self.results.write(json.dumps(row) + "\n")
        self.results.flush()
        return row

    def ask(self, kind, job, engine, request, **more):
        """Asks and records; None where the engine failed."""
        try:
            return self.record(kind, job, engine, engine.ask(request, min(self.arguments.patience, self.left())), **more)
        except Failure as failure:
            self.record("failure", job, engine, {"error": str(failure)}, during=kind)
            print(f"{engine.name}, {job['model']}, {job['precision']}: {failure}", file=sys.stderr, flush=True)
            return None

    def prepare(self, job, engine):
        """Losses without dropout, then ready for timing: the last preparation's answer, or None."""
        with open(job["model"], "rb") as file:
            dropout = drops(tomllib.load(file)["layers"])
        if job["precision"] not in self.arguments.losses_in:
            return self.ask("prepare", job, engine, {**job, "dropout": True}, dropout=dropout)
        model, factor = self.for_losses(job["model"])
        plain = self.ask("prepare", job, engine, {**job, "model": model, "dropout": False}, dropout=False)
        if plain and not self.ask("losses", job, engine, {"losses": LOSSES}, rate_factor=factor):
            return None
        if self.arguments.losses_only or not (dropout or factor != 1.0):
            return plain
        return self.ask("prepare", job, engine, {**job, "dropout": True}, dropout=dropout)

    def for_losses(self, model):
        """The configuration whose losses are compared, and the factor on its learning rate."""
        factors = dict(pair.split("=") for pair in self.arguments.losses_rate)
        factor = float(factors.get(Path(model).stem, 1.0))
        if factor == 1.0:
            return model, factor
        slower = lambda found: f"{found[1]}{float(found[2]) * factor!r}"
        copy = self.arguments.out / "slower" / Path(model).name
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(re.sub(r"^(learning_rate *= *)([-+.\de]+)", slower, Path(model).read_text(), flags=re.MULTILINE))
        return str(copy), factor

    def measure(self, job, seconds):
        """One model in one precision, in about so many seconds."""
        end = time.monotonic() + seconds
        workers = len(self.engines) if self.arguments.parallel_prepare else 1
        with ThreadPoolExecutor(workers) as pool:
            prepared = list(pool.map(lambda engine: self.prepare(job, engine), self.engines))
        ready = [engine for engine, answer in zip(self.engines, prepared) if answer]
        if self.arguments.losses_only or not ready:
            return
        fastest = min((answer["step_ms"] for answer in prepared if answer and answer.get("step_ms")), default=1.0)
        steps = max(10, min(500, round(100 / fastest)))
        turns = len(ready) * self.arguments.rounds
        window = min(self.arguments.longest, max(SHORTEST, (end - time.monotonic()) / turns))
        for number in range(self.arguments.rounds):
            for engine in ready if number % 2 == 0 else ready[::-1]:
                if self.left() > window:
                    self.ask("window", job, engine, {"window": window, "steps": steps}, round=number)

    def all(self):
        jobs = []
        for precision in self.arguments.precisions:
            for model in self.arguments.models:
                inputs = self.arguments.inputs / Path(model).stem
                files = {"weights": str(inputs / "weights.safetensors"), "data": str(inputs / "data.npz")}
                jobs.append({"model": model, "precision": precision, **files, "warm_up": self.arguments.warm_up})
        for number, job in enumerate(jobs):
            if self.left() < 5:
                print(f"no time left for {len(jobs) - number} of {len(jobs)} jobs", file=sys.stderr)
                break
            start = time.monotonic()
            # Whatever a job does not use is left for those after it.
            self.measure(job, self.left() / (len(jobs) - number))
            print(f"{job['model']}, {job['precision']}: {time.monotonic() - start:.1f} s, {self.left():.0f} s left", file=sys.stderr, flush=True)


def engines_of(arguments):
    """The engines asked for, in their order."""
    step = [arguments.backprop, "bench", "step", "--device"]
    twin = lambda name, python: [python, str(HERE.parent / "common" / f"{name}_twin.py"), "--serve", "--device", arguments.device]
    # JAX would take three quarters of the memory ahead.
    share = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.3"}
    make = {
        "backprop": lambda: (step + [arguments.device, "--serve"], {}),
        "native": lambda: (step + ["cpu", "--serve"], {}),
        "jax": lambda: (twin("jax", arguments.python_jax), share),
        "jax-rbg": lambda: (twin("jax", arguments.python_jax) + ["--prng", "rbg"], share),
        "torch": lambda: (twin("torch", arguments.python_torch), {}),
        "torch.compile": lambda: (twin("torch", arguments.python_torch) + ["--compile"], {}),
    }
    engines = []
    for name in arguments.engines:
        command, env = make[name]()
        if arguments.once and name in ("backprop", "native"):
            engines.append(Once(name, command[:-1]))
        else:
            engines.append(Server(name, command, arguments.out / f"{name}.log", env))
    return engines


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    models = sorted(str(path) for path in Path("models").glob("*.toml"))
    parser.add_argument("--backprop", default="target/release/backprop", help="the program")
    parser.add_argument("--once", action="store_true", help="start backprop anew for each round")
    parser.add_argument("--engines", nargs="+", default=["backprop", "jax", "torch"], help="also native, jax-rbg, torch.compile")
    parser.add_argument("--models", nargs="+", default=models)
    parser.add_argument("--precisions", nargs="+", default=["tf32", "highest"])
    parser.add_argument("--inputs", type=Path, default=Path("inputs"), help="folder with MODEL/weights.safetensors and MODEL/data.npz")
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--longest", type=float, default=2.0, help="seconds of a round of one engine at most")
    parser.add_argument("--seconds-total", type=float, default=360.0)
    parser.add_argument("--patience", type=float, default=120.0, help="seconds an answer may take")
    parser.add_argument("--warm-up", type=int, default=20, help="steps before timing")
    parser.add_argument("--parallel-prepare", action="store_true", help="engines compile at the same time; they then disturb each other's tuning")
    parser.add_argument("--losses-in", nargs="*", default=["tf32", "highest"], help="precisions in which losses are compared, which takes a second compilation of some networks")
    parser.add_argument("--losses-only", action="store_true", help="no timing")
    rate_help = "factors on learning rates while losses are compared, for networks in which rounding grows fast at their own rate"
    parser.add_argument("--losses-rate", nargs="*", default=["resnet18-cifar=0.001", "cnn-fashion=0.1"], metavar="MODEL=FACTOR", help=rate_help)
    parser.add_argument("--reference", type=Path, nargs="*", default=[], help="results.jsonl of other runs whose losses stand in the table too")
    parser.add_argument("--python-jax", default=sys.executable)
    parser.add_argument("--python-torch", default=sys.executable)
    arguments = parser.parse_args()
    for model in arguments.models:
        inputs = arguments.inputs / Path(model).stem
        if missing := [str(path) for path in (Path(model), inputs / "weights.safetensors", inputs / "data.npz") if not path.is_file()]:
            parser.error(f"there is no {', no '.join(missing)}; `backprop bench export CONFIG --out {inputs}` makes weights and data")
    return arguments


def main():
    arguments = parse()
    arguments.out.mkdir(parents=True, exist_ok=True)
    # The table of what there is, also when the time is cut short.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    engines = engines_of(arguments)
    for engine in engines:
        engine.start()
    try:
        Run(arguments, engines).all()
    finally:
        for engine in engines:
            engine.stop()
        text = tables([*arguments.reference, arguments.out / "results.jsonl"])
        (arguments.out / "table.md").write_text(text)
        print(text)


if __name__ == "__main__":
    main()
