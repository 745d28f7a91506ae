"""Tables of the results of run.py.

    python bench/cpu/table.py results/results.jsonl [more.jsonl …]
"""

import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "common"))

from engines import KINDS
from rows import head, in_order, line, read

SUBJECT = "backprop"
TOLERANCE = {"w8": 1e-3}
"""How far a peer's losses may be from backprop's, in shares of the first loss. Batch norm over few values amplifies rounding in w8."""
USUAL = 1e-4
KEPT = 0.85
"""Share of its speed that each core keeps while all compute, at least; else `run.py` takes a turn again."""
FAR = 2.5
"""How many times as long as at best threads take to meet, at most; the same."""
BUSY = 0.1
"""Cores used by others, or withheld by the host, above which a window is mentioned."""


def figure(ms):
    """Milliseconds in three digits or four."""
    return f"{ms:.4f}" if ms < 0.1 else f"{ms:.3f}" if ms < 10 else f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"


class Cell:
    """What was found for one workload on one number of threads."""

    def __init__(self, rows, workload, threads):
        self.workload, self.threads = workload, threads
        self.rows = [row for row in rows if (row.get("workload"), row.get("threads")) == (workload, threads)]
        self.engines = in_order(row["engine"] for row in self.rows)

    def of(self, kind, engine):
        return [row for row in self.rows if (row["kind"], row["engine"]) == (kind, engine)]

    def far(self, row):
        """Whether the cores shared no cache then, as far as can be seen."""
        return row["meeting_us"] > FAR * min(other["meeting_us"] for other in self.rows if other["kind"] == "window")

    def rounds(self, engine):
        """Median milliseconds of a step in each window."""
        return [row["step_ms_median"] for row in self.of("window", engine)]

    def ms(self, engine):
        return statistics.median(self.rounds(engine))

    def losses(self, engine):
        return [row["losses"] for row in self.of("losses", engine)][-1:]

    def difference(self, engine):
        """How far an engine's first or tenth loss is from backprop's, as a share of the first; None where one is missing."""
        curves = [(mine, theirs) for mine in self.losses(SUBJECT) for theirs in self.losses(engine)]
        return max((abs(mine[i] - theirs[i]) / mine[0] for mine, theirs in curves for i in (0, -1)), default=None)

    def agrees(self, engine):
        """Whether an engine trains the same network: only then does its time count."""
        difference = self.difference(engine)
        return difference is not None and difference <= TOLERANCE.get(self.workload, USUAL)

    def peers(self, calls_only=False):
        """Engines that count, fastest first."""
        timed = [engine for engine in self.engines if engine != SUBJECT and self.rounds(engine) and self.agrees(engine)]
        return sorted((e for e in timed if not (calls_only and KINDS[e].ahead)), key=self.ms)

    def ratio(self, peer):
        """How many times as fast backprop is: the median over the rounds, and the range. Only rounds count in which the cores were alike,
        if there is one."""
        rounds = [(mine, theirs) for mine in self.of("window", SUBJECT) for theirs in self.of("window", peer) if mine["round"] == theirs["round"]]
        alike = [(mine, theirs) for mine, theirs in rounds if self.far(mine) == self.far(theirs)]
        pairs = [theirs["step_ms_median"] / mine["step_ms_median"] for mine, theirs in alike or rounds]
        if not pairs:
            return "–"
        return f"{statistics.median(pairs):.2f} ({min(pairs):.2f}–{max(pairs):.2f})"

    def memory(self, engine):
        """MB of the process at most."""
        found = [row["peak_resident_bytes"] for row in self.of("memory", engine) if row["peak_resident_bytes"]]
        return max(found, default=None)

    def compile(self, engine):
        return [row["compile_s"] for row in self.of("prepare", engine)][-1:]


def speeds(cells):
    """One line for each workload: backprop, the fastest peer, the ratio, and all others."""
    columns = in_order(engine for cell in cells for engine in cell.engines if engine != SUBJECT)
    text = head(["Workload", "backprop, ms", "Fastest peer, ms", "Times as fast", "… of those that wait for each step", *columns])
    for cell in cells:
        peers, calls = cell.peers(), cell.peers(calls_only=True)
        mine = figure(cell.ms(SUBJECT)) if cell.rounds(SUBJECT) else "–"
        best = f"{figure(cell.ms(peers[0]))} {peers[0]}" if peers else "–"
        waits = "" if peers[:1] == calls[:1] or not calls else f"{cell.ratio(calls[0])} {calls[0]}"
        others = [shown(cell, engine) for engine in columns]
        text += line([cell.workload.upper(), mine, best, cell.ratio(peers[0]) if peers else "–", waits, *others])
    return text


def shown(cell, engine):
    """An engine's time, or why there is none."""
    if not cell.rounds(engine):
        return "failed" if cell.of("failure", engine) else ""
    return figure(cell.ms(engine)) if cell.agrees(engine) else f"({figure(cell.ms(engine))}: other losses)"


def memories(cells):
    """MB of the whole process, and seconds of compiling."""
    text = head(["Workload", "Threads", "backprop, MB", "Its plan, MB", "Least of a peer, MB", "Compiling: backprop, s", "Fastest peer, s"])
    mega = lambda count: f"{count / 1e6:.0f}" if count else "–"
    for cell in cells:
        plan = [row["arena_bytes"] + row["state_bytes"] for row in cell.of("prepare", SUBJECT)][-1:]
        least = min((cell.memory(e), e) for e in cell.peers() if cell.memory(e)) if any(map(cell.memory, cell.peers())) else (None, "")
        seconds = [f"{s:.3f}" for engine in (SUBJECT, *cell.peers()[:1]) for s in cell.compile(engine)]
        cells_of = [mega(cell.memory(SUBJECT)), mega(plan[0] if plan else None), f"{mega(least[0])} {least[1]}", *seconds]
        text += line([cell.workload.upper(), str(cell.threads), *cells_of])
    return text


def curves(cells):
    """The losses, and how far the peers are from them."""
    text = head(["Workload", "First loss", "Tenth step's loss", "Largest difference of a peer, of the first loss", "Allowed"])
    for cell in cells:
        mine = [losses for losses in cell.losses(SUBJECT)]
        if not mine:
            continue
        peers = [(cell.difference(e), e) for e in cell.engines if e != SUBJECT and cell.difference(e) is not None]
        worst = f"{max(peers)[0]:.0e} {max(peers)[1]}" if peers else "–"
        text += line([cell.workload.upper(), f"{mine[0][0]:.6f}", f"{mine[0][-1]:.6f}", worst, f"{TOLERANCE.get(cell.workload, USUAL):g}"])
    return text


def disturbed(rows):
    """Windows in which the machine was not the engine's alone."""
    windows = [row for row in rows if row["kind"] == "window"]
    nearest = min((row["meeting_us"] for row in windows if row["threads"] > 1), default=0.0)
    what = {
        f"others used, or the host withheld, more than {BUSY} cores": lambda row: max(row["others"], row["stolen"]) > BUSY,
        f"cores kept less than {KEPT} of their speed while all computed": lambda row: row["kept"] < KEPT,
        f"threads met in more than {FAR} times the best {nearest:.3f} µs": lambda row: row["meeting_us"] > FAR * nearest,
    }
    text = f"Of {len(windows)} windows:"
    for condition, holds in what.items():
        named = in_order(f"{row['workload'].upper()}/{row['threads']} {row['engine']}" for row in windows if holds(row))
        text += f" in {', '.join(named) or 'none'} {condition};"
    return text[:-1] + ".\n"


def tables(paths):
    """All tables of result files."""
    rows = read(paths)
    keys = sorted({(row["threads"], row["workload"]) for row in rows if "workload" in row}, key=lambda key: (-key[0], len(key[1]), key[1]))
    cells = [Cell(rows, workload, threads) for threads, workload in keys]
    machines = in_order(f"{row['cpu']}, {row['cores']} cores" for row in rows if row["kind"] == "machine")
    versions = in_order(f"{row['engine'].split('-')[0]} {row['version']}" for row in rows if row.get("version"))
    text = f"Measured on {'; '.join(machines)}. {', '.join(versions)}. {disturbed(rows)}\n"
    for threads in in_order(cell.threads for cell in cells):
        text += f"Step in ms on {threads} threads:\n\n{speeds([c for c in cells if c.threads == threads])}\n"
    most = max((cell.threads for cell in cells), default=0)
    return text + memories(cells) + "\n" + curves([cell for cell in cells if cell.threads == most])


if __name__ == "__main__":
    print(tables(sys.argv[1:]))
