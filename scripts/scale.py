#!/usr/bin/env python3
"""Measures how far the design goes on one machine: a fleet on a real RabbitMQ, and the same fleet in a PostgreSQL table.

    scripts/scale.py [--seconds S] [--part NAME] [--write-docs]     make scale [SECONDS=S] [PART=NAME] [WRITE_DOCS=1]

Each part gets a share of the time that is left, and tries the same growing numbers of hosts. The parts are:

    60s, 10s, 1s   `novella swarm` reports every 60, 10 and 1 s over shared connections to one and to two schedulers
    own            every 10 s, a connection for each agent, as hosts have
    table          one upsert per report at the same rates, the fleet read for each placement (scripts/postgres.sh)

Every row goes to target/scale/rows.json and rows.tsv, and the work tree stays as it was. With --write-docs a whole run, which
is one without --seconds, also writes the tables and plots of docs/scale.md. A whole run takes twenty minutes, and one part
again its share. What cannot be had is named, and the run fails: nothing is skipped. Broker, database and fleet are private ones and end with the run, however it ends.
"""

import argparse
import json
import os
import resource
import signal
import sys
import time
from types import SimpleNamespace

import scale_bus
import scale_page
import scale_table
from measure import ROOT, Failed, build

WHOLE_RUN = 1150  # seconds of measuring, so that a run ends within twenty minutes
WINDOWS = (3, 6)  # how many seconds one step is measured, shortest and longest
# The share of the time for each part. A part that starts more hosts needs more.
SHARES = {"60s": 5, "10s": 6, "1s": 5, "own": 4, "table": 4}
PLACEMENTS = 10  # requested per second meanwhile
RESULTS = ROOT / "target" / "scale"
PRIORITY = -10  # so that other work on the machine affects the figures less


class Budget:
    """Time for one part."""

    def __init__(self, seconds):
        self.until = time.monotonic() + seconds

    def left(self):
        return self.until - time.monotonic()


def climb(name, broker, options, budget):
    """Rows of one part, and why it ended."""
    if name == "table":
        return scale_table.climb(options, budget)
    return scale_bus.climb(name, broker, options, budget, 10 if name == "own" else int(name.rstrip("s")), name == "own")


def measure(options, seconds, names):
    """Rows of these parts and why each ended, added to the rows of other parts."""
    results = read_results() if len(names) < len(SHARES) else {"rows": [], "ended": {}}
    with scale_bus.Broker() as broker:
        everything = Budget(seconds)
        for done, name in enumerate(names):
            if name == "table":
                broker.kill()
            elif done and options.whole:
                broker.start()
            print(f"\n== {name}: load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
            share = SHARES[name] / sum(SHARES[later] for later in names[done:])
            rows, ended = climb(name, broker, options, Budget(everything.left() * share))
            print(f"{name}: {ended}", flush=True)
            if not rows:
                raise Failed(f"part {name} measured nothing: {ended}")
            kinds = {row["part"] for row in rows}
            results["rows"] = [row for row in results["rows"] if row["part"] not in kinds] + rows
            results["ended"][name] = ended
            write_results(**results)
    return results


def read_results():
    try:
        return json.loads((RESULTS / "rows.json").read_text(encoding="utf-8"))
    except FileNotFoundError as missing:
        raise Failed("there is no earlier run to add this to; run without --part and --page first") from missing


def write_results(rows, ended):
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "rows.json").write_text(json.dumps({"rows": rows, "ended": ended}, indent=1), encoding="utf-8")
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [columns, *([row.get(column) for column in columns] for row in rows)]
    lines = ["\t".join("-" if cell is None else f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in line) for line in cells]
    (RESULTS / "rows.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def raise_limits():
    """Raises the limit of open files. A fleet with a connection for each host needs two per host."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard > soft:
        print(f"open files: {soft:,} raised to {hard:,}")
    try:
        os.nice(PRIORITY - os.nice(0))
    except PermissionError:
        print("measuring without a higher priority, which needs root: other work on the machine makes the figures worse")
    return hard


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=int, help="time for all parts together; a whole run without it")
    arguments.add_argument("--part", choices=SHARES, help="measure this part again; the others stay as they were")
    arguments.add_argument("--write-docs", action="store_true", help="also write the tables and plots of docs/scale.md")
    arguments.add_argument("--page", action="store_true", help="measure nothing: write docs/scale.md anew from target/scale/rows.json")
    asked = arguments.parse_args()
    if asked.write_docs and asked.seconds:
        arguments.error("--write-docs needs a whole run, so leave out --seconds")
    names = [asked.part] if asked.part else list(SHARES)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything that was started is ended
    os.environ.setdefault("NOVELLA_TEST_DIR", str(ROOT / "target" / "scale-env"))
    seconds = asked.seconds or WHOLE_RUN * sum(SHARES[name] for name in names) // sum(SHARES.values())
    window = min(max(seconds // 40, WINDOWS[0]), WINDOWS[1])
    try:
        if asked.page:
            scale_page.write(read_results())
            return 0
        build()
        options = SimpleNamespace(whole=asked.seconds is None, window=window, placements=PLACEMENTS, files=raise_limits())
        results = measure(options, seconds, names)
        if asked.write_docs:
            scale_page.write(results)
        for name, why in results["ended"].items():
            print(f"{name:6} {why}")
        return 0
    except Failed as failure:
        print(f"scale.py: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
