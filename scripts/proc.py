"""CPU time, memory and threads of processes, as Linux reports them. A process that is gone is a FileNotFoundError."""

import os
import pathlib
import re

TICK = os.sysconf("SC_CLK_TCK")


def _times(path):
    """utime, stime, cutime, cstime in seconds, and the name."""
    stat = pathlib.Path(path).read_text(encoding="utf-8", errors="replace")
    name = stat[stat.index("(") + 1 : stat.rindex(")")]
    return [int(ticks) / TICK for ticks in stat.rpartition(")")[2].split()[11:15]], name


def cpu(pid):
    """Seconds of CPU time, including threads that have ended, in steps of the kernel's tick, 10 ms."""
    times, _ = _times(f"/proc/{pid}/stat")
    return times[0] + times[1]


def cpu_with_children(pid):
    """The same of a process and its children, including those that have ended."""
    total = 0.0
    for child in children(pid):
        try:
            total += cpu(child)
        except (FileNotFoundError, ProcessLookupError):  # it has ended since, so its parent has its time
            pass
    return total + sum(_times(f"/proc/{pid}/stat")[0])


def threads_cpu(pid):
    """{(thread id, name): seconds}."""
    used = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            times, name = _times(task / "stat")
        except (FileNotFoundError, ProcessLookupError):
            continue
        used[task.name, name] = times[0] + times[1]
    return used


def children(pid):
    listed = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
    return [int(child) for child in listed.split()]


def memory(pid, field="VmRSS"):
    """Resident memory in bytes; VmHWM is the highest so far."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) * 1024


def shared_memory(pid):
    """Resident memory in bytes of a process and its children. A page that several of them share is counted once."""
    total = 0
    for one in [pid, *children(pid)]:
        try:
            rollup = pathlib.Path(f"/proc/{one}/smaps_rollup").read_text(encoding="utf-8")
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += int(re.search(r"Pss:\s+(\d+) kB", rollup)[1]) * 1024
    return total


def machine_busy():
    """Seconds that all cores together were busy since boot, without time that was stolen or spent waiting for disks."""
    with open("/proc/stat", encoding="utf-8") as stat:
        user, nice, system, _, _, irq, softirq, *_ = (int(ticks) for ticks in stat.readline().split()[1:])
    return (user + nice + system + irq + softirq) / TICK
