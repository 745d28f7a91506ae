"""What the machine is, and what else it did while an engine was timed. Of the files of Linux; elsewhere little is known."""

import json
import os
import platform
import subprocess
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def lines(path):
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def machine():
    """The processor's name and the cores this process may use."""
    names = [line.split(":", 1)[1].strip() for line in lines("/proc/cpuinfo") if line.startswith("model name")]
    family = [line.split(":", 1)[1].strip() for line in lines("/proc/cpuinfo") if line.startswith(("cpu family", "model\t"))]
    name = f"{names[0]}, family and model {'/'.join(family[:2])}" if names else platform.processor() or platform.machine()
    return {"cpu": name, "cores": len(os.sched_getaffinity(0)), "system": platform.platform(terse=True)}


def peak_resident(pid):
    """The most bytes of memory that a process has held; None where the system does not say."""
    found = [int(line.split()[1]) * 1024 for line in lines(f"/proc/{pid}/status") if line.startswith("VmHWM:")]
    return found[0] if found else None


def cores_now(program, threads, cores):
    """How much of its own speed each core keeps while all compute: far below 1 where the host runs two of them on one real core. And how long
    threads take to meet, in microseconds: several times longer where the host has moved them to cores that share no cache."""
    if threads == 1:
        return {"kept": 1.0, "meeting_us": 0.0}
    command = [program, "bench", "machine", "--threads", str(threads), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=lambda: os.sched_setaffinity(0, cores))
    found = json.loads(done.stdout)
    kept = found["peak_gflop_per_s"] / found["peak_gflop_per_s_of_one"] / threads
    return {"kept": round(kept, 3), "meeting_us": round(found["meeting_us"], 4)}


class Watch:
    """What others took of the machine since the watch was begun."""

    def __init__(self, pid):
        self.pid = pid
        self.start = self.now()

    def now(self):
        """Seconds: on the clock, of all cores at work, stolen by the host, and of the process at work."""
        # user, nice, system, idle, iowait, irq, softirq, steal
        total = [int(n) / TICKS for n in next(iter(lines("/proc/stat")), "cpu" + " 0" * 8).split()[1:9]]
        # Field 14 and 15, counted from the one after the name in parentheses.
        own = " ".join(lines(f"/proc/{self.pid}/stat")).rpartition(")")[2].split()[11:13] or [0, 0]
        return time.monotonic(), sum(total) - total[3] - total[4] - total[7], total[7], sum(map(int, own)) / TICKS

    def seen(self):
        """Cores that others used, and cores that the host withheld, on the average."""
        wall, busy, stolen, own = (after - before for before, after in zip(self.start, self.now()))
        return {"others": round(max(0.0, busy - own) / wall, 3), "stolen": round(stolen / wall, 3)}
