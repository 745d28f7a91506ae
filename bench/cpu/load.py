"""What the machine is, and what else it did while an engine was timed. Of the files of Linux; elsewhere little is known."""

import os
import platform
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
