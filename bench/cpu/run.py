"""Times the training steps of the workloads w1.toml, w2.toml, … in backprop and its peers on the processor, in turns.

    python bench/cpu/inputs.py target/bench
    python bench/cpu/run.py --inputs target/bench --out target/bench/results --python-jax JAX/bin/python --python-tf TF/bin/python

For each workload and number of threads every engine is a process of its own, pinned to the last cores of those that this process may use. All
prepare: they read the same weights and batch, compile, and give the losses of the first ten steps, which must be backprop's. Then they are timed
in rounds, one after the other, in every second round in reverse order; while one is timed the others wait for their input. Writes
results.jsonl as it goes and table.md at the end; a run that is cut short has a table of what there is.

Each call of a step is waited for and timed by itself. Only the forms of JAX that make many steps before anybody waits (`jax-scan`, fifty in one
program; `jax-ahead`, calls one after the other) are timed in groups. How processes are asked is described in ../common/server.py.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "common"))

from engines import HERE, KINDS, asked, command
from inputs import WORKLOADS
from load import Watch, cores_now, machine, peak_resident
from server import Failure, Server
from table import FAR, KEPT, tables

LOSSES = 10
"""First steps whose losses are compared."""
SETTLE = 0.1
"""Seconds between two turns: threads of the engine before go to sleep."""
GROUP = 20.0
"""Milliseconds of steps that are timed together where no single one is waited for."""


class Cell:
    """One workload on one number of threads."""

    def __init__(self, run, workload, threads, names):
        self.run, self.workload, self.threads = run, workload, threads
        arguments = run.arguments
        folder = arguments.inputs / workload
        files = {"weights": str(folder / "weights.safetensors"), "data": str(folder / "data.npz")}
        self.job = {"model": str(HERE / f"{workload}.toml"), "precision": "highest", "warm_up": arguments.warm_up, **files}
        self.cores = sorted(os.sched_getaffinity(0))[-threads:]
        self.engines, self.steps = [], {}
        for name in names:
            program, environment = command(KINDS[name], threads, arguments)
            if not shutil.which(program[0]):
                print(f"{workload}: {name} is left out, for there is no {program[0]}", file=sys.stderr)
                continue
            self.engines.append(Server(name, program, arguments.out / f"{name}.log", environment, self.cores))

    def record(self, kind, engine, answer, **more):
        self.run.record({"kind": kind, "workload": self.workload, "threads": self.threads, "engine": engine.name, **more, **answer})

    def ask(self, kind, engine, request):
        """The answer, or None where the engine failed, which is recorded."""
        try:
            return engine.ask(request, self.run.arguments.patience)
        except Failure as failure:
            self.record("failure", engine, {"error": str(failure)}, during=kind)
            print(f"{self.workload}, {self.threads} threads, {engine.name}: {failure}", file=sys.stderr, flush=True)
            return None

    def prepare(self, engine):
        """Compiles, and gives the losses; whether that worked."""
        kind = KINDS[engine.name]
        wait = {} if kind.program == "backprop" else {"wait": not kind.ahead}
        ready = self.ask("prepare", engine, {**self.job, **wait})
        losses = ready and self.ask("losses", engine, {"losses": LOSSES})
        if not losses:
            return False
        self.record("prepare", engine, {**ready, "engine": engine.name})
        self.record("losses", engine, losses)
        self.steps[engine.name] = max(1, round(GROUP / ready["step_ms"])) if kind.ahead else 1
        return True

    def turn(self, engine, number):
        """One turn of an engine, again if the cores were not what they seem."""
        for tries in range(1, self.run.arguments.tries + 1):
            before = self.cores_now()
            row = self.window(engine)
            after = self.cores_now()
            kept, meeting = min(before["kept"], after["kept"]), max(before["meeting_us"], after["meeting_us"])
            if not row or kept >= KEPT and meeting <= FAR * self.run.nearest:
                break
            time.sleep(1.0)
        if row:
            self.record("window", engine, row, round=number, kept=kept, meeting_us=meeting, tries=tries)

    def cores_now(self):
        found = cores_now(self.run.arguments.backprop, self.threads, self.cores)
        if self.threads > 1:
            self.run.nearest = min(self.run.nearest, found["meeting_us"])
        return found

    def window(self, engine):
        """What was timed, and what else happened; None where the engine failed."""
        time.sleep(SETTLE)
        watch = Watch(engine.process.pid)
        answer = self.ask("window", engine, {"window": self.run.arguments.seconds, "steps": self.steps[engine.name]})
        if not answer:
            return None
        median, low, high = quantiles(answer["step_ms"])
        times = {"step_ms_median": median, "step_ms_p10": low, "step_ms_p90": high, "timed": len(answer["step_ms"])}
        return {**times, **watch.seen()}

    def measure(self):
        try:
            with ThreadPoolExecutor(self.run.arguments.parallel) as pool:
                prepared = list(pool.map(self.prepare, self.engines))
            ready = [engine for engine, done in zip(self.engines, prepared) if done]
            for number in range(self.run.arguments.rounds):
                for engine in ready if number % 2 == 0 else ready[::-1]:
                    # One that failed in a round before has no process.
                    if engine.process:
                        self.turn(engine, number)
            for engine in ready:
                if engine.process:
                    self.record("memory", engine, {"peak_resident_bytes": peak_resident(engine.process.pid)})
        finally:
            for engine in self.engines:
                engine.stop()


def quantiles(values):
    """The median, the tenth and the ninetieth percentile."""
    ordered = sorted(values)
    at = lambda share: ordered[round(share * (len(ordered) - 1))]
    return statistics.median(ordered), at(0.1), at(0.9)


class Run:
    """The file of results, and all that is measured into it."""

    def __init__(self, arguments):
        self.arguments, self.nearest = arguments, float("inf")
        self.results = open(arguments.out / "results.jsonl", "a")
        self.record({"kind": "machine", **machine(), "seconds": arguments.seconds, "rounds": arguments.rounds})

    def record(self, row):
        self.results.write(json.dumps(row) + "\n")
        self.results.flush()

    def all(self):
        for workload in self.arguments.workloads:
            for threads in self.arguments.threads:
                start = time.monotonic()
                names = asked(self.arguments.engines, workload)
                Cell(self, workload, threads, names).measure()
                print(f"{workload}, {threads} threads: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", default=WORKLOADS, choices=WORKLOADS, metavar="W")
    parser.add_argument("--threads", nargs="+", type=int, default=[2, 1], metavar="N")
    engines = f"`all`, `best` (of each framework what was fastest before), or some of {', '.join(KINDS)}"
    parser.add_argument("--engines", nargs="+", default=["best"], metavar="NAME", help=engines)
    parser.add_argument("--inputs", type=Path, default=Path("target/bench"), help="where inputs.py wrote weights and data")
    parser.add_argument("--out", type=Path, default=Path("target/bench/results"))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one engine in a round")
    parser.add_argument("--tries", type=int, default=1, help="turns that are taken at most because cores were not apart, or shared no cache")
    parser.add_argument("--warm-up", type=int, default=5, help="steps before timing; the first ones of the first window are not much slower")
    parser.add_argument("--parallel", type=int, default=2, help="engines that compile at the same time")
    parser.add_argument("--patience", type=float, default=300.0, help="seconds an answer may take")
    parser.add_argument("--backprop", default="target/release/backprop", help="the program")
    for name in ("torch", "jax", "tf"):
        parser.add_argument(f"--python-{name}", default=sys.executable, help=f"the Python that has {name}")
    parser.add_argument("--candle", default=str(HERE / "rust" / "target" / "release" / "candle"), help="the program in bench/cpu/rust")
    arguments = parser.parse_args()
    if unknown := set(arguments.engines) - set(KINDS) - {"all", "best"}:
        parser.error(f"no engine is called {', '.join(sorted(unknown))}")
    for workload in arguments.workloads:
        if not (arguments.inputs / workload / "data.npz").is_file():
            parser.error(f"there is no {arguments.inputs / workload / 'data.npz'}; bench/cpu/inputs.py writes it")
    return arguments


def main():
    arguments = parse()
    arguments.out.mkdir(parents=True, exist_ok=True)
    # The table of what there is, also when the time is cut short.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        Run(arguments).all()
    finally:
        text = tables([arguments.out / "results.jsonl"])
        (arguments.out / "table.md").write_text(text)
        print(text)


if __name__ == "__main__":
    main()
