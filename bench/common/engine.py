"""What the twins share: reading a job, the timing protocol, and serving requests. The requests are described at the top of server.py.

A twin is a subclass of Engine. One window is a number of steps, one after the other, each with its batch copied from host memory, and one
synchronisation at the end: the best case of a framework that runs ahead of the device. A request with "wait" waits for each step instead.
"""

import argparse
import json
import statistics
import sys
import time
import tomllib
import traceback
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

WARM_UP = 20
"""Steps after the first one and before anything is timed, unless the request says another number."""


class Engine:
    """A framework that trains one configuration at a time, on one device."""

    name = ""
    version = ""
    """Of the framework."""
    together = 1
    """Steps that one call of `step` makes."""

    def device(self):
        """What the device calls itself."""
        raise NotImplementedError

    def build(self, config, weights, batches, precision, dropout):
        """Takes a job: the configuration, arrays by name, a list of (x, y), "highest" or "tf32", and whether dropout drops."""
        raise NotImplementedError

    def reset(self):
        """Back to the first weights and an empty optimizer."""
        raise NotImplementedError

    def step(self, number):
        """Enqueues one training step on batch `number`, counted round and round; returns its loss, which nobody has waited for."""
        raise NotImplementedError

    def wait(self, loss):
        """Waits for the step of that loss, and with it for all before it."""
        self.value(loss)

    def value(self, loss):
        """Waits as well; the loss as a number, or the losses of the steps that were made together."""
        return float(loss)


def drops(layers):
    """Whether any layer of the list drops something while training."""
    inner = (drops(part) for layer in layers for part in (layer.get("body", []), layer.get("shortcut", []), *layer.get("branches", [])))
    return any(inner) or any(dropout_of(layer) > 0 for layer in layers)


def dropout_of(layer):
    """Probability with which a layer drops elements."""
    if layer["type"] == "dropout":
        return layer.get("p", 0.5)
    return layer.get("dropout", 0.1 if layer["type"] == "transformer_block" else 0.0)


def codes(config, x):
    """Inputs as an embedding of columns reads them: whole numbers, which backprop takes among reals."""
    return x.astype(np.int32) if config["layers"][0]["type"] == "columns_embedding" else x


def child_name(layer, number):
    """What a layer of a list is called in parameter names."""
    return layer.get("name", str(number))


class Job:
    """A prepared engine: what a request asks of it."""

    def __init__(self, engine, request):
        self.engine, self.request, self.number = engine, request, 0
        with open(request["model"], "rb") as file:
            self.config = tomllib.load(file)
        data = np.load(request["data"])
        batches = list(zip(data["x"], data["y"]))
        start = time.perf_counter()
        dropout = request.get("dropout", True) and drops(self.config["layers"])
        engine.build(self.config, load_file(request["weights"]), batches, request["precision"], dropout)
        engine.reset()
        self.run(1)
        self.compile_s = time.perf_counter() - start
        warm_up = request.get("warm_up", WARM_UP)
        self.run(warm_up)
        self.step_ms = self.run(warm_up)

    def run(self, steps):
        """A window; milliseconds per step."""
        calls, wait = self.calls(steps), self.request.get("wait", False)
        start = time.perf_counter()
        for _ in range(calls):
            loss = self.engine.step(self.number)
            self.number += self.engine.together
            if wait:
                self.engine.wait(loss)
        self.engine.wait(loss)
        return (time.perf_counter() - start) / (calls * self.engine.together) * 1e3

    def calls(self, steps):
        """How often `step` is called for so many steps, which may become more."""
        return -(-steps // self.engine.together)

    def about(self):
        """What was prepared."""
        model = Path(self.request["model"]).stem
        about = {"engine": self.engine.name, "version": self.engine.version, "model": model, "device": self.engine.device(), "precision": self.request["precision"]}
        return {**about, "compile_s": round(self.compile_s, 3), "step_ms": self.step_ms}

    def windows(self, seconds, steps):
        """Milliseconds per step of each window; as many windows as begin within the seconds."""
        start, windows = time.perf_counter(), []
        while not windows or time.perf_counter() - start < seconds:
            windows.append(self.run(steps))
        return windows

    def losses(self, count):
        """The losses of the first steps from the first weights."""
        self.engine.reset()
        losses = [self.engine.step(call * self.engine.together) for call in range(self.calls(count))]
        return [float(value) for loss in losses for value in np.ravel(self.engine.value(loss))][:count]


def serve(engine):
    """Answers each line of the standard input with one line."""
    job = None
    for line in sys.stdin:
        try:
            request = json.loads(line)
            if "model" in request:
                job = None
                job = Job(engine, request)
                answer = job.about()
            elif "losses" in request:
                answer = {"losses": job.losses(request["losses"])}
            else:
                steps = job.calls(request["steps"]) * engine.together
                answer = {"step_ms": job.windows(request["window"], steps), "steps": steps}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps(answer), flush=True)


def once(engine, arguments):
    """One job from beginning to end; the line it prints has the keys of `backprop bench step --json`."""
    request = {name: getattr(arguments, name) for name in ("model", "weights", "data", "precision", "wait")}
    # Losses are compared without dropout: no two engines draw the same numbers.
    job = Job(engine, {**request, "dropout": False})
    losses = job.losses(10)
    if not arguments.no_dropout and drops(job.config["layers"]):
        job = Job(engine, request)
    steps = max(10, min(500, round(100 / job.step_ms)))
    windows = sorted(job.windows(arguments.seconds, steps))
    about = job.about()
    del about["step_ms"]
    at = lambda share: windows[round(share * (len(windows) - 1))]
    timing = {"step_ms_median": statistics.median(windows), "step_ms_p10": at(0.1), "step_ms_p90": at(0.9)}
    print(json.dumps({**about, "loss_first": losses[0], "loss_step10": losses[9], **timing, "steps": steps * len(windows)}))


def parser(description):
    """The arguments of every twin."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="configuration in TOML; none with --serve")
    parser.add_argument("--weights", help="first weights, in safetensors")
    parser.add_argument("--data", help="x and y of all batches, stacked, in .npz")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--threads", type=int, help="threads of the cpu; which cores they may use is for the caller to say")
    parser.add_argument("--precision", choices=["highest", "tf32"], default="highest")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long steps are timed")
    parser.add_argument("--wait", action="store_true", help="wait for each step before the next")
    parser.add_argument("--no-dropout", action="store_true", help="time steps that drop nothing")
    parser.add_argument("--serve", action="store_true", help="answer requests from the standard input instead")
    return parser


def main(make_engine, arguments):
    """Serves or runs once, as the arguments say."""
    engine = make_engine(arguments)
    if arguments.serve:
        serve(engine)
    elif arguments.model and arguments.weights and arguments.data:
        once(engine, arguments)
    else:
        raise SystemExit("give a configuration, --weights and --data, or --serve")
