"""The engines that a training step is compared in: how each is started, and where it is worth it."""

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
IMAGES = ("w2", "w3", "w8", "w11")
"""Workloads in which the layout of images in memory makes a difference."""
CANDLE = ("w1", "w2", "w5", "w6", "w7")
"""What candle can train: it has no batch norm and no LSTM whose derivative it knows."""


@dataclass(frozen=True)
class Kind:
    """One form of one framework."""

    program: str
    """backprop, torch, jax, tf or candle."""
    options: tuple = ()
    only: tuple = ()
    """The workloads where this form differs from the framework's first; all if empty."""
    ahead: bool = False
    """Whether it makes several steps before anybody waits for one: no single call is timed then."""
    best: tuple = ()
    """The workloads where no other form of the framework was faster on the machine of README.md; in w6 and w14a also that which waits.
    Empty for frameworks that were nowhere near the fastest."""


KINDS = {
    "backprop": Kind("backprop"),
    "torch": Kind("torch", ("--layout", "channels-first"), best=("w1", "w4", "w5", "w6", "w7", "w9", "w10", "w14a", "w14b")),
    "torch-cl": Kind("torch", (), IMAGES, best=("w2", "w11")),
    "torch-compile": Kind("torch", ("--layout", "channels-first", "--compile"), best=("w12", "w13")),
    "torch-compile-cl": Kind("torch", ("--compile",), IMAGES, best=("w3", "w8")),
    "jax": Kind("jax", best=("w2", "w3", "w4", "w5", "w6", "w8", "w9", "w10", "w11", "w12", "w14a")),
    "jax-ahead": Kind("jax", (), ("w6", "w14a"), ahead=True),
    "jax-scan": Kind("jax", ("--scan", "50"), ("w1", "w6", "w7", "w13", "w14a", "w14b"), ahead=True, best=("w1", "w6", "w7", "w13", "w14a", "w14b")),
    "jax-unroll": Kind("jax", ("--unroll", "8"), ("w4", "w9")),
    "tf": Kind("tf", best=("w2", "w3", "w4", "w6", "w8", "w9", "w10", "w11", "w12")),
    "tf-xla": Kind("tf", ("--xla",), best=("w1", "w5", "w7", "w13", "w14a", "w14b")),
    "candle": Kind("candle", (), CANDLE),
}


def asked(names, workload):
    """The engines for a workload: those of the names that differ there, or "all", or "best" for the fastest form of each framework."""
    there = [name for name, kind in KINDS.items() if not kind.only or workload in kind.only]
    if names == ["all"]:
        return there
    if names == ["best"]:
        return [name for name in there if name == "backprop" or workload in KINDS[name].best]
    return [name for name in there if name in names]


def command(kind, threads, arguments):
    """What starts an engine of a kind, and what it needs in its environment."""
    count = str(threads)
    program = {
        "backprop": [arguments.backprop, "bench", "step", "--serve", "--threads", count],
        "candle": [arguments.candle],
    }
    python = {"torch": arguments.python_torch, "jax": arguments.python_jax, "tf": arguments.python_tf}
    for name, interpreter in python.items():
        twin = HERE.parent / "common" / f"{name}_twin.py"
        program[name] = [interpreter, str(twin), "--serve", "--device", "cpu", "--threads", count]
    pools = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "MATMUL_NUM_THREADS")
    return [*program[kind.program], *kind.options], {**dict.fromkeys(pools, count), "CUDA_VISIBLE_DEVICES": ""}
