#!/usr/bin/env python3
"""The figures of docs/performance.md that need whole programs or a broker, each beside its target.

    scripts/measure.py [--write-docs] [PART...]     make measure ARGS='PART...' WRITE_DOCS=1

Parts, all of them unless named:

    reports    decode a report and apply it, per report (cargo bench)
    placement  one placement among 10,000 hosts (cargo bench)
    reload     a new policy at 20,000 hosts: for how long placements wait (cargo bench)
    nova       one placement by Nova 34 and by the engine, on the same 1,000 and 10,000 hosts in turn
    scale      the engine at 100 to a million hosts, beside the naive one of the tests, and the host manager between live
               reports; draws placement.svg
    drain      a filled queue into the map, against a bare lapin consumer (cargo bench)
    rpc        a call over RabbitMQ, against a bare lapin pair and against oslo.messaging (cargo bench)
    agent      resident memory and CPU time of compute-agent, reporting every 10 s
    startup    from the start of a scheduler to a complete map of 1,000 swarm hosts, and until it takes requests
    memory     the scheduler's memory per host, with 10,000 swarm hosts

Pictures go to target/measure/, and only with --write-docs to docs/, so that a run leaves the work tree as it was.

Release builds run against a RabbitMQ of their own, started by scripts/rabbitmq.sh and stopped at the end. Exit code 0 if
every target was met, 1 if one was missed. Other work on the machine counts against the figures: the load before each part
is printed.
"""

import argparse
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import plot
import proc

ROOT = pathlib.Path(__file__).resolve().parents[1]
BINARIES = ROOT / "target" / "release"
RESULTS = ROOT / "target" / "measure"
LIMIT = 300  # seconds that anything here may take at most
AGENT_SECONDS = 120
STARTUP_ROUNDS = 5
UNITS = {"ns": 1e-3, "µs": 1, "ms": 1e3, "s": 1e6}


class Failed(Exception):
    """A measurement that could not be made."""


class Daemon:
    """A program of ours under measurement."""

    def __init__(self, name, *arguments, port=None, **settings):
        self.name, self.port = name, port
        environment = dict(os.environ)
        if port:
            environment["NOVELLA_HTTP__LISTEN"] = f"127.0.0.1:{port}"
        environment.update(settings)
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([BINARIES / name, *arguments], stdout=self.log, stderr=self.log, env=environment)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def memory(self, field="VmRSS"):
        """Resident memory in bytes; VmHWM is the highest so far."""
        return proc.memory(self.process.pid, field)

    def threads(self):
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def sockets(self):
        fds = pathlib.Path(f"/proc/{self.process.pid}/fd")
        return sum(os.readlink(fd).startswith("socket:") for fd in fds.iterdir())

    def cpu(self):
        """Seconds of CPU time used."""
        return proc.cpu(self.process.pid)

    def said(self, words):
        return self.process.poll() is None and words in self.output()

    def output(self):
        with open(f"/proc/self/fd/{self.log.fileno()}", encoding="utf-8", errors="replace") as log:
            return log.read()

    def ready(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2) as answer:
                return answer.status == 200
        except urllib.error.URLError:  # not listening yet, or 503
            return False

    def hosts_up(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=2) as answer:
                up = re.search(r'_hosts\{state="up"\} (\d+)', answer.read().decode())
        except urllib.error.URLError:
            return 0
        return int(up[1]) if up else 0

    def wait(self, what, condition, every=0.01):
        """Seconds until `condition` holds."""
        began = time.monotonic()
        while not condition():
            if self.process.poll() is not None:
                raise Failed(f"{self.name} ended with {self.process.returncode}:\n{self.output()[-2000:]}")
            if time.monotonic() - began > LIMIT:
                raise Failed(f"{self.name}: {what}: not within {LIMIT} s\n{self.output()[-2000:]}")
            time.sleep(every)
        return time.monotonic() - began


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(command, **options):
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, check=False, **options)
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))} ended with {done.returncode}")
    return done.stdout


def undisturbed(command, **options):
    """Runs a command that starts or ends something: an interrupt waits until it is done, so that nothing is left half way."""
    waiting, signals = [], (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(one, lambda number, _: waiting.append(number)) for one in signals]
    try:
        return run(command, start_new_session=True, **options)
    finally:
        for one, handler in zip(signals, before):
            signal.signal(one, handler)
        for number in waiting[:1]:
            signal.raise_signal(number)


def bench(package, name):
    output = run(["cargo", "bench", "--quiet", "--locked", "-p", package, "--bench", name])
    print(output)
    return output


def divan_medians(output):
    """{bench: {argument: (median µs, fastest µs)}} of divan's table."""
    medians, current = {}, None
    for line in output.splitlines():
        title = re.match(r"[├╰]─ (\w+)", line)
        if title:
            current = medians.setdefault(title[1], {})
        row = re.match(r"[│ ]+[├╰]─ (\d+) +(.*)", line)
        if row and current is not None:
            fastest, _, median, *_ = (cell.split() for cell in row[2].split("│"))
            current[int(row[1])] = tuple(float(value) * UNITS[unit] for value, unit in (median, fastest))
    return medians


def reports():
    """The report path, in memory."""
    medians = divan_medians(bench("novella-scheduler", "report_path"))
    for claims, limit in ((0, 5), (20, 12)):
        (ours, fastest), (serde, _) = (medians[name][claims] for name in ("decode_and_apply", "serde_json_alone"))
        note = f"fastest batch {fastest:.2f} µs; serde_json alone {serde:.2f} µs"
        yield f"one report with {claims} claims: decode it and apply it to the map", limit, "≤", ours, "µs", note


def placement():
    """A placement, in memory."""
    medians = divan_medians(bench("novella-scheduler", "placement"))
    note = f"without reserving {medians['dry_run'][10_000][0]:.0f} µs"
    yield "one placement among 10,000 hosts, with its reservation", 150, "≤", medians["select_and_reserve"][10_000][0], "µs", note


def reload():
    """A new policy for 20,000 hosts, in memory; fastest samples, because others work on the machine too."""
    lines = bench("novella-host-manager", "reload").splitlines()
    figures = {name: (float(fastest), float(slowest)) for name, fastest, slowest in (line.split("\t") for line in lines)}
    what = {
        "whole": "matching all hosts with the new aggregates at once",
        "matching": "matching a few hosts, while placements wait",
        "changeover": "putting it in force, every host changes its aggregates",
        "one": "putting it in force, one rack changes its aggregates",
    }
    for name, (fastest, slowest) in figures.items():
        aim = None if name == "whole" else 5
        yield f"new policy for 20,000 hosts: {what[name]}", aim, "≤", fastest / 1e3, "ms", f"slowest {slowest / 1e3:.2f} ms"


def nova():
    """Nova 34 and the engine, on the same documents in turn; fastest samples."""
    lines = run([ROOT / "scripts" / "conformance.sh", "speed"]).splitlines()
    for line in lines[1:]:
        hosts, theirs, first, again = line.split("\t")
        what = f"one placement among {int(hosts):,} hosts, first request of its kind"
        ratio = float(theirs) / float(first)
        note = f"Nova {float(theirs) / 1e3:,.0f} ms: {ratio:,.0f} times; again {float(again):.1f} µs"
        yield what, {"1000": 8, "10000": 50}[hosts], "≤", float(first), "µs", note


# The rows of the benchmarks in plain words.
SCALE_ROWS = {
    "single": "one placement among {:,} hosts, {}",
    "instances": "one request for {1:,} instances among {0:,} hosts",
    "explain": "time that the explanation adds to a placement among {:,} hosts",
    "sustained": "placements per second while {:,} hosts report",
}
REQUESTS = {"first request": "first request of its kind", "repeated request": "request repeated between reports"}
FLEETS = {"Oracle": "hosts as recorded", "Equal": "equal, empty hosts"}
WRITE_DOCS = False  # --write-docs


def write_picture(name, drawing):
    """Writes a picture beside the documents if that was asked for, else to target/measure."""
    folder = ROOT / "docs" if WRITE_DOCS else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(drawing, encoding="utf-8")
    print(f"picture: {folder / name}")


def scale():
    """The engine by itself, beside the naive one in the same run, and the host manager between live reports; fastest samples."""
    series = {}
    alone, live = bench("novella-filter-scheduler", "scale"), bench("novella-host-manager", "live")
    for line in alone.splitlines()[1:] + live.splitlines()[1:]:
        row, fleet, unit, fastest, median, naive, target = line.split("\t")
        kind, *rest = row.split("_")
        rest = [int(word) if word.isdigit() else f"{word} request" for word in rest]
        words = [REQUESTS.get(word, word) for word in rest]
        what = f"{SCALE_ROWS[kind].format(*words)}, {FLEETS[fleet]}"
        fastest, naive = float(fastest), None if naive == "-" else float(naive)
        times = naive and naive / fastest
        note = f"median {median}" + (f"; naive {naive:,.0f}: {times:,.0f} times" if naive else "")
        aim = None if target == "-" else float(target)
        sense, unit = ("≥", "/s") if kind == "sustained" else ("≤", "%" if unit == "%" else "µs")
        yield what, aim, sense, fastest, unit, note
        if kind == "single":
            series.setdefault(f"{fleet.lower()}, {rest[1]}", []).append((rest[0], fastest))
            if naive and fleet == "Oracle" and rest[1].startswith("first"):
                series.setdefault("naive, oracle", []).append((rest[0], naive))
    title = "One placement, explained, against the number of hosts"
    drawing = plot.loglog(title, "hosts", "microseconds, fastest sample", series)
    write_picture("placement.svg", drawing)


def drain():
    """A filled queue."""
    output = bench("novella-tests", "drain")
    bare, ours, ratio = re.search(r"bare (\d+)/s, scheduler (\d+)/s, ratio ([\d.]+)", output).groups()
    note = f"bare lapin {bare}/s, scheduler {ours}/s"
    yield "emptying a full queue: rate, relative to a bare lapin consumer", 0.9, "≥", float(ratio), "", note


def rpc():
    """A `ping` from our client to a scheduler."""
    os.environ["NOVELLA_TEST_PYTHON"] = run([ROOT / "scripts" / "conformance.sh", "python"]).strip()
    output = bench("novella-tests", "rpc")
    row = re.compile(r"^(p50|rate) (\w+): ([\d.]+), novella ([\d.]+), ratio ([\d.]+)$", re.MULTILINE)
    rows = {(what, beside): (float(other), float(ours), float(ratio)) for what, beside, other, ours, ratio in row.findall(output)}
    for what, beside, limit, sense, title, unit in (
        ("p50", "bare", 1.3, "≤", "a call, one caller: median time, relative to a bare lapin pair", "µs"),
        ("rate", "bare", 0.8, "≥", "calls of 16 callers: rate, relative to a bare lapin pair", "/s"),
        ("rate", "python", 4, "≥", "calls of 16 callers: rate, relative to oslo.messaging", "/s"),
        ("p50", "python", None, "", "a call, one caller: median time, relative to oslo.messaging", "µs"),
    ):
        other, ours, ratio = rows[what, beside]
        yield title, limit, sense, ratio, "", f"{beside} {other:.0f} {unit}, novella {ours:.0f} {unit}"


def agent():
    """One agent, the linux driver, its defaults."""
    with tempfile.TemporaryDirectory() as state:
        with Daemon("compute-agent", "--state-dir", state, "--host", "measured", port=free_port()) as daemon:
            daemon.wait("ready", daemon.ready)
            time.sleep(20)  # two reports: what starts late is there
            before, began = daemon.cpu(), time.monotonic()
            time.sleep(AGENT_SECONDS)
            cpu, seconds = daemon.cpu() - before, time.monotonic() - began
            note = f"highest {daemon.memory('VmHWM') / 2**20:.1f} MB, {daemon.threads()} threads, {daemon.sockets()} sockets"
            yield "compute-agent: resident memory", 12, "≤", daemon.memory() / 2**20, "MB", note
            share = 100 * cpu / seconds
            yield "compute-agent: CPU time, of one core", 0.1, "≤", share, "%", f"{cpu * 1000:.0f} ms in {seconds:.0f} s, report every 10 s"


def swarm(hosts, interval):
    return Daemon("novella", "swarm", "--hosts", str(hosts), "--interval", interval, "--connections", "8")


def startup():
    """Scheduler starts beside a running fleet of 1,000."""
    hosts = 1000
    with swarm(hosts, "10s") as fleet:
        began = fleet.wait("all agents hold their queues", lambda: fleet.said("hold their queues"))
        print(f"swarm of {hosts}: started in {began:.1f} s, {fleet.memory() / 2**20:.0f} MB resident")
        time.sleep(10)  # the first reports of all have passed
        complete, ready = [], []
        for _ in range(STARTUP_ROUNDS):
            began = time.monotonic()
            with Daemon("scheduler", "--name", "measured", port=free_port()) as daemon:
                daemon.wait("complete map", lambda: daemon.hosts_up() == hosts)
                complete.append(time.monotonic() - began)
                daemon.wait("ready", daemon.ready)
                ready.append(time.monotonic() - began)
                print(f"complete after {complete[-1]:.2f} s, ready after {ready[-1]:.2f} s")
        print(rates(fleet))
        yield "from scheduler start to a map of 1,000 hosts", 3, "≤", statistics.median(complete), "s", f"worst of {STARTUP_ROUNDS}: {max(complete):.2f} s"
        yield "from scheduler start to taking requests, 1,000 hosts", None, "", statistics.median(ready), "s", f"worst of {STARTUP_ROUNDS}: {max(ready):.2f} s"


def rates(fleet):
    """The swarm's own last word about its rates."""
    lines = [line for line in fleet.output().splitlines() if "reports/s" in line]
    return f"swarm: {lines[-1].strip()}" if lines else "swarm: no rates yet"


def memory():
    """A scheduler before and after 10,000 hosts report to it."""
    hosts = 10_000
    # All hosts are new to this scheduler, and have one broker user.
    newcomers = {"NOVELLA_REPORTS__NEW_HOSTS_PER_MINUTE": str(hosts)}
    with Daemon("scheduler", "--name", "measured", port=free_port(), **newcomers) as daemon:
        daemon.wait("ready", daemon.ready)
        empty = daemon.memory()
        with swarm(hosts, "30s") as fleet:
            began = fleet.wait("all agents hold their queues", lambda: fleet.said("hold their queues"))
            daemon.wait("complete map", lambda: daemon.hosts_up() == hosts, every=1)
            time.sleep(60)  # two more reports of each
            full, peak = daemon.memory(), daemon.memory("VmHWM")
            print(f"swarm of {hosts}: started in {began:.1f} s, {fleet.memory() / 2**20:.0f} MB resident")
            print(rates(fleet))
    note = f"{empty / 2**20:.1f} MB empty, {full / 2**20:.1f} MB with {hosts:,}, highest {peak / 2**20:.1f} MB"
    yield "scheduler: memory per host", 2, "≤", (full - empty) / hosts / 1024, "KB", note


PARTS = {part.__name__: part for part in (reports, placement, reload, nova, scale, drain, rpc, agent, startup, memory)}
IN_MEMORY = {"reports", "placement", "reload", "nova", "scale"}


def build():
    packages = ("novella-compute-agent", "novella-scheduler", "novella-cli")
    run(["cargo", "build", "--quiet", "--release", "--locked", *(f"--package={name}" for name in packages)])


def broker():
    """Starts RabbitMQ; the environment names it to the programs."""
    os.environ.setdefault("NOVELLA_TEST_DIR", str(ROOT / "target" / "measure-env"))
    run([ROOT / "scripts" / "rabbitmq.sh", "start"])
    url = run([ROOT / "scripts" / "rabbitmq.sh", "url"]).strip()
    os.environ["NOVELLA_TEST_RABBIT_URL"] = os.environ["NOVELLA_TRANSPORT_URL"] = url


def measure(names):
    rows = []
    for name in names:
        print(f"\n== {name}: {PARTS[name].__doc__} Load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.", flush=True)
        rows.extend(PARTS[name]())
    return rows


def table(rows):
    missed = 0
    width = max((len(row[0]) for row in rows), default=0)
    print(f"\n{'':{width}} {'target':>10} {'measured':>10}")
    for what, target, sense, value, unit, note in rows:
        if target is None:  # shown for its own sake
            aim, verdict = "", ""
        else:
            met = value <= target if sense == "≤" else value >= target
            missed += not met
            aim, verdict = f"{sense} {target:>5} {unit:2}", "PASS" if met else "MISSED"
        figure = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        print(f"{what:{width}} {aim:10} {figure:>7} {unit:2} {verdict:6} {note}")
    return missed


def main():
    global WRITE_DOCS
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--write-docs", action="store_true", help="write the pictures to docs/ and not to target/measure/")
    arguments.add_argument("parts", nargs="*", metavar="PART", help="measure only these parts")
    asked = arguments.parse_args()
    names = asked.parts or list(PARTS)
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        arguments.error(f"there is no part {', '.join(unknown)}; the parts are {', '.join(PARTS)}")
    WRITE_DOCS = asked.write_docs
    started = False
    try:
        if not IN_MEMORY.issuperset(names):
            build()
            started = True
            broker()
        return 1 if table(measure(names)) else 0
    except Failed as failure:
        print(f"measure.py: {failure}", file=sys.stderr)
        return 1
    finally:
        if started and "NOVELLA_KEEP_BROKER" not in os.environ:
            subprocess.run([ROOT / "scripts" / "rabbitmq.sh", "stop"], check=False)


if __name__ == "__main__":
    sys.exit(main())
