"""Tables of the results of run.py.

    python bench/accelerators/table.py results/results.jsonl [more.jsonl …]
"""

import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "common"))

from rows import head, in_order, line, read

ASKED = {"jax": 0.97, "torch": 1.3}
"""How fast backprop shall be, as a multiple of the other's speed."""


def quantile(values, share):
    return sorted(values)[round(share * (len(values) - 1))]


def spread(values):
    """Median and the tenth and ninetieth percentile."""
    return f"{statistics.median(values):.3f} ({quantile(values, 0.1):.3f}–{quantile(values, 0.9):.3f})"


class Job:
    """The rows of one model in one precision."""

    def __init__(self, model, precision, rows):
        self.model, self.precision = model, precision
        self.rows = [row for row in rows if (row["model"], row["precision"]) == (model, precision)]

    def windows(self, engine):
        """Milliseconds per step by round."""
        return {row["round"]: row["step_ms"] for row in self.rows if row["kind"] == "window" and row["engine"] == engine}

    def step(self, engine):
        """All windows of an engine in words."""
        values = [value for windows in self.windows(engine).values() for value in windows]
        return spread(values) if values else self.failure(engine)

    def failure(self, engine):
        return "failed" if any(row["kind"] == "failure" and row["engine"] == engine for row in self.rows) else "–"

    def compile(self, engine):
        """Seconds of the last preparation, the one that was timed."""
        seconds = [row["compile_s"] for row in self.rows if row["kind"] == "prepare" and row["engine"] == engine and "compile_s" in row]
        return f"{seconds[-1]:.1f}" if seconds else "–"

    def ratios(self, subject, peer):
        """How often as fast the subject is, in each round both were timed in."""
        mine, theirs = self.windows(subject), self.windows(peer)
        return [statistics.median(theirs[n]) / statistics.median(mine[n]) for n in mine if n in theirs]

    def losses(self):
        """The losses of each engine, the last recorded."""
        return {row["engine"]: row["losses"] for row in self.rows if row["kind"] == "losses"}

    def rate_factor(self):
        """The factor on the learning rate while losses were compared, in words."""
        return next((f"{row['rate_factor']:g}" for row in self.rows if row["kind"] == "losses"), "–")


def ratio(ratios, asked):
    """Paired ratios in words: the median, the range, and whether it is what was asked."""
    if not ratios:
        return "–"
    median = statistics.median(ratios)
    verdict = "" if asked is None else " ✓" if median >= asked else " ✗"
    return f"{median:.2f} ({min(ratios):.2f}–{max(ratios):.2f}){verdict}"


def speeds(jobs, engines):
    """Milliseconds per step, and backprop's speed as a multiple of each peer's."""
    peers = [engine for engine in engines if engine != "backprop"] if "backprop" in engines else []
    text = head(["Model", "Precision", *(f"{e}, ms" for e in engines), *(f"× {p}" for p in peers), "Compiling, s"])
    for job in jobs:
        steps = [job.step(engine) for engine in engines]
        multiples = [ratio(job.ratios("backprop", peer), ASKED.get(peer)) for peer in peers]
        text += line([job.model, job.precision, *steps, *multiples, " / ".join(job.compile(engine) for engine in engines)])
    return text


def difference(losses, others):
    """The largest relative difference of two curves in words, with the first and the last one's."""
    pairs = [(a, b) for a, b in zip(losses, others) if a is not None and b is not None]
    relative = [abs(a - b) / abs(b) for a, b in pairs]
    return f"{relative[0]:.0e}, {relative[-1]:.0e}, {max(relative):.0e}"


def curves(jobs, engines):
    """Losses of the first steps, and differences from the CPU's f32 if there is one, else from PyTorch's."""
    text = head(["Model", "Precision", "Rate ×", "Engine", "First loss", "Loss of the tenth step", "Relative difference: first, last, largest", "From"])
    native = {(job.model, job.rate_factor()): job.losses()["native"] for job in jobs if "native" in job.losses()}
    for job in jobs:
        losses = job.losses()
        same = (job.model, job.rate_factor())
        against = "native" if same in native else "torch"
        basis = native.get(same, losses.get("torch"))
        for engine in (engine for engine in engines if engine in losses):
            compared = difference(losses[engine], basis) if basis and engine != against else "–"
            first, last = (f"{value:.6f}" for value in (losses[engine][0], losses[engine][-1]))
            text += line([job.model, job.precision, job.rate_factor(), engine, first, last, compared, against if compared != "–" else "–"])
    return text


def tables(paths):
    """Speeds and losses of result files."""
    rows = read(paths)
    jobs = [Job(model, precision, rows) for model, precision in in_order((row["model"], row["precision"]) for row in rows)]
    timed = in_order(row["engine"] for row in rows if row["kind"] in ("window", "failure"))
    engines = in_order(row["engine"] for row in rows)
    devices = in_order(row["device"] for row in rows if "device" in row)
    text = "Devices, as the engines call them: " + ", ".join(devices) + "\n\n"
    if any(row["kind"] == "window" for row in rows):
        text += speeds([job for job in jobs if any(row["kind"] == "window" for row in job.rows)], timed) + "\n"
    return text + curves(jobs, engines)


if __name__ == "__main__":
    print(tables(sys.argv[1:]))
