"""Writes the tables of docs/scale.md, between markers, and its plots, from the rows of a run. The other text is written by hand."""

import datetime
import os
import pathlib
import platform
import re

import plot
from measure import ROOT, run

PAGE = ROOT / "docs" / "scale.md"
CELL_HOSTS = 20_000
MILLION = 1_000_000


def number(value, digits=0):
    return "-" if value is None else f"{value:,.{digits}f}"


def ms(value):
    return number(value, 1 if value is not None and value < 100 else 0)


def markdown(columns, lines):
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [columns, ["---"] * len(columns), *lines])


def bus_table(rows):
    """The steps of one part on the bus."""
    columns = ["hosts", "schedulers", "connections", "settled after s", "reports/s, due", "lag p50, p99 ms", "waiting", "lost", "placement p50, p99 ms",
               "CPU broker, scheduler, swarm, machine %", "MB broker, scheduler", "kept up; first limit"]  # fmt: skip
    lines = [
        [
            number(row["hosts"]),
            str(row["schedulers"]),
            number(row["connections"]),
            number(row["settle_s"]),
            f"{number(row['arrived_per_s'])}, {number(row['offered_per_s'])}",
            f"{ms(row['lag_p50_ms'])}, {ms(row['lag_p99_ms'])}",
            number(row["depth"]),
            number(row["missed"] + row["failures"]),
            f"{ms(row['place_p50_ms'])}, {ms(row['place_p99_ms'])}",
            ", ".join(number(row[key]) for key in ("broker_cpu", "scheduler_cpu", "swarm_cpu", "machine_cpu")),
            f"{number(row['broker_mb'])}, {number(row['scheduler_mb'])}",
            ("yes; " if row["kept"] else "**no**; ") + row["limit"],
        ]
        for row in rows
    ]
    return markdown(columns, lines)


def database_table(rows):
    """The steps of the table."""
    columns = ["hosts", "every", "upserts/s, due", "lag p50, p99 ms", "reads/s", "full read p50, p99 ms", "placed in SQL ms",
               "CPU database, clients, machine %", "MB", "updates kept up; first limit"]  # fmt: skip
    lines = [
        [
            number(row["hosts"]),
            f"{row['interval_s']} s",
            f"{number(row['arrived_per_s'])}, {number(row['offered_per_s'])}",
            f"{ms(row['lag_p50_ms'])}, {ms(row['lag_p99_ms'])}",
            number(row["reads_per_s"], 1),
            f"{ms(row['read_p50_ms'])}, {ms(row['read_p99_ms'])}",
            ms(row["sql_ms"]),
            ", ".join(number(row[key]) for key in ("database_cpu", "client_cpu", "machine_cpu")),
            number(row["database_mb"]),
            ("yes; " if row["kept"] else "**no**; ") + row["limit"],
        ]
        for row in rows
    ]
    return markdown(columns, lines)


class Run:
    """Rows of a run, with the figures that the tables show."""

    def __init__(self, results):
        self.rows, self.ended = results["rows"], results["ended"]

    def part(self, name, **where):
        rows = [row for row in self.rows if row["part"] == name]
        return sorted(
            (row for row in rows if all(row[key] == value for key, value in where.items())), key=lambda row: (row["hosts"], row.get("interval_s", 0), row.get("schedulers", 0))
        )

    def busiest(self, name, **where):
        """The row with the most reports that was kept up with, or else the first row."""
        rows = self.part(name, **where)
        kept = [row for row in rows if row.get("kept")]
        return max(kept or rows, key=lambda row: row["arrived_per_s"])

    def per_report(self, key, name, **where):
        """Microseconds of CPU for one report."""
        row = self.busiest(name, **where)
        return row[key] / 100 / row["arrived_per_s"] * 1e6


def summary(measured):
    """The largest fleet of each part that was kept up with, and why the part ended."""
    parts = [(f"bus, a report every {s} s", f"{s}s", {"schedulers": 1}) for s in (60, 10, 1)]
    parts += [(f"bus, every {s} s, two schedulers", f"{s}s", {"schedulers": 2}) for s in (60, 10, 1)]
    parts += [("bus, every 10 s, a connection for each agent", "own", {})]
    parts += [(f"table, every {s} s", "table", {"interval_s": s}) for s in (60, 10, 1)]
    lines = []
    for what, name, where in parts:
        rows = measured.part(name, **where)
        kept = [row for row in rows if row["kept"]]
        if not kept:
            lines.append([what, "none", "-", "-", "-", rows[0]["limit"] if rows else "not measured"])
            continue
        most = max(kept, key=lambda row: row["hosts"])
        failed = [row for row in rows if row["hosts"] > most["hosts"] and not row["kept"]]
        least = min(failed, key=lambda row: row["hosts"]) if failed else None
        why = f"{number(least['hosts'])} hosts: {least['limit']}" if least else measured.ended[name]
        placed = most["place_p50_ms"] if "place_p50_ms" in most else most["read_p50_ms"]
        lines.append([what, number(most["hosts"]), number(most["arrived_per_s"]), f"{ms(most['lag_p50_ms'])}, {ms(most['lag_p99_ms'])}", ms(placed), why])
    return markdown(["part", "most hosts kept up with", "reports/s", "lag p50, p99 ms", "placement or full read, p50 ms", "what ended it"], lines)


def growth(rows, key):
    """The increase of a value per host, from the smallest to the largest fleet."""
    first, last = rows[0], rows[-1]
    return None if first is last else max(0.0, last[key] - first[key]) / (last["hosts"] - first["hosts"])


def costs(measured):
    """The cost of one report for each program, and of one host's connection."""
    one, two = ({"schedulers": count} for count in (1, 2))
    rate = measured.busiest("1s", **one)["arrived_per_s"]
    upserts = measured.part("most", durable=False)[0]["arrived_per_s"]
    own = growth(measured.part("own"), "broker_mb")
    shared = growth(measured.part("10s", **one), "broker_mb")
    lines = [
        ["broker, one scheduler", f"{number(measured.per_report('broker_cpu', '1s', **one))} µs of CPU per report, at {number(rate)} reports/s"],
        ["broker, two schedulers", f"{number(measured.per_report('broker_cpu', '1s', **two))} µs"],
        ["one scheduler", f"{number(measured.per_report('scheduler_cpu', '1s', **one))} µs"],
        ["agents (swarm, shared connections)", f"{number(measured.per_report('swarm_cpu', '1s', **one))} µs"],
        ["database", f"{number(measured.per_report('database_cpu', 'most', durable=False))} µs per upsert, at {number(upserts)} upserts/s"],
        ["broker's memory, shared connections", f"{number((shared or 0) * 1024)} KB per host"],
        ["broker's memory, a connection for each agent", f"{number((own or 0) * 1024)} KB per host"],
    ]
    return markdown(["who", "what"], lines)


def paper(measured):
    """Extrapolates from the costs to a million hosts and to one cell."""
    one, two = ({"schedulers": count} for count in (1, 2))
    broker, broker_two = (measured.per_report("broker_cpu", "1s", **count) for count in (one, two))
    scheduler = measured.per_report("scheduler_cpu", "1s", **one)
    database = measured.per_report("database_cpu", "most", durable=False)
    largest = measured.part("table")[-1]
    read_s = (largest["read_p50_ms"] or 0.0) / largest["hosts"] * MILLION / 1e3
    memory_kb = (growth(measured.part("own"), "broker_mb") or 0) * 1024
    lines = []
    for hosts, what in ((CELL_HOSTS, "one cell"), (MILLION, "all")):
        for interval in (60, 10, 1):
            rate = hosts / interval
            lines.append(
                [
                    f"{number(hosts)} ({what})",
                    f"{interval} s",
                    number(rate),
                    f"{rate * broker / 1e6:,.2f}",
                    f"{rate * max(broker_two - broker, 0) / 1e6:,.2f}",
                    f"{rate * scheduler / 1e6:,.2f}",
                    f"{hosts * memory_kb / 2**20:,.1f}",
                    f"{rate * database / 1e6:,.2f}",
                    f"{read_s * hosts / MILLION:,.2f}",
                ]
            )
    columns = ["hosts", "every", "reports/s", "broker, cores", "broker for each further scheduler, cores", "each scheduler, cores",
               "connections, GB", "database, cores", "full read, s per placement"]  # fmt: skip
    return markdown(columns, lines)


def machine(measured):
    """The machine, the versions and the time of the run."""
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        model = re.search(r"model name\s*:\s*(.+)", info.read())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = [run(["dpkg-query", "-W", "-f", "${Package} ${Version}", name]) for name in ("rabbitmq-server", "postgresql")]
    busy = [row["machine_cpu"] for row in measured.part("60s") if row["hosts"] == 100]
    return (
        f"{datetime.date.today()}: {os.cpu_count()} cores of {model[1] if model else platform.machine()}, {memory:.0f} GB, Linux "
        f"{platform.release()}.\n{', '.join(versions)}. Everything ran on the same cores.\nWith 100 hosts the machine was "
        f"{number(busy[0])} % busy (of {100 * os.cpu_count()} %). More than a few per cent there is unrelated background work."
    )


def plots(measured):
    """Three SVG files beside the page."""
    points = lambda rows, key, across="hosts": [(row[across], row[key]) for row in rows if row[key]]
    bus = {f"bus, every {s} s": points(measured.part(f"{s}s", schedulers=1), "lag_p99_ms") for s in (60, 10, 1)}
    table = {f"table, every {s} s": points(measured.part("table", interval_s=s), "lag_p99_ms") for s in (10, 1)}
    draw("scale-lag", "From a host's report to the map or table, 99 of 100", "hosts", "milliseconds", bus | table)
    ten, read = measured.part("10s", schedulers=1), measured.part("table", interval_s=60)
    placement = {
        "bus, p99": points(ten, "place_p99_ms"),
        "bus, p50": points(ten, "place_p50_ms"),
        "table, full read": points(read, "read_p50_ms"),
        "table, decided in SQL": points(read, "sql_ms"),
    }
    draw("scale-placement", "One placement while the hosts report", "hosts", "milliseconds", placement)
    fast, upserts = measured.part("1s", schedulers=1), measured.part("table", interval_s=1)
    cpu = {name: points(fast, f"{key}_cpu", "arrived_per_s") for name, key in (("broker", "broker"), ("scheduler", "scheduler"), ("swarm", "swarm"))}
    cpu["database"] = points(upserts, "database_cpu", "arrived_per_s")
    draw("scale-cpu", "CPU against reports per second, a report every second", "reports per second", "per cent of a core", cpu)


def draw(name, title, across, up, series):
    drawing = plot.loglog(title, across, up, {line: sorted(points) for line, points in series.items() if points})
    pathlib.Path(ROOT / "docs" / f"{name}.svg").write_text(drawing, encoding="utf-8")


def write(results):
    """Writes everything between `<!-- scale.py: NAME -->` and `<!-- scale.py: end -->` again, and the plots."""
    measured = Run(results)
    blocks = {name: bus_table(measured.part(name)) for name in ("60s", "10s", "1s", "own")}
    blocks |= {
        "machine": machine(measured),
        "summary": summary(measured),
        "table": database_table(measured.part("table")),
        "costs": costs(measured),
        "paper": paper(measured),
    }
    page = PAGE.read_text(encoding="utf-8")
    for name, text in blocks.items():
        page, found = re.subn(
            rf"(<!-- scale\.py: {name} -->\n).*?(<!-- scale\.py: end -->)", lambda match, text=text: f"{match[1]}{text}\n{match[2]}", page, flags=re.DOTALL
        )
        if found != 1:
            raise SystemExit(f"scale.py: {PAGE.name} has {found} places for {name}")
    PAGE.write_text(page, encoding="utf-8")
    plots(measured)
