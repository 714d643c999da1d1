"""The same fleet kept in a PostgreSQL table: one upsert per report, the fleet read for each placement.

The table is like Nova's compute_nodes: the host's amounts in columns, and the report as well. It is set up for this load.
The primary key is the only index and pages are half empty, so that an update stays on its page and touches no index.
Commits do not wait for the disk, because a lost report is sent again. The client is pgbench, PostgreSQL's own benchmark
program in C, so that the client takes little time. Updates and reads come at random moments at the rate of the fleet. The
time of each starts when it is due, as that of a report does.
"""

import json
import math
import os
import pathlib
import re
import resource
import subprocess
import tempfile
import time

import proc
from measure import ROOT, Failed, run, undisturbed
from scale_bus import LADDER, enough

POSTGRES = ROOT / "scripts" / "postgres.sh"
INTERVALS = (60, 10, 1)
WRITERS, READERS = 8, 4  # connections, like those of a connection pool
SQL_PLACEMENTS = 30

# A report of an agent without claims, like those of the swarm's hosts. The table keeps it as text.
REPORT = json.dumps(
    {
        "vcpus": 64, "vcpus_used": 12, "disk_total": 4000, "disk_used": 300, "disk_available": 3700, "host_memory_total": 262144,
        "host_memory_free": 200000, "hypervisor_type": "fake", "hypervisor_version": 1000000, "hypervisor_hostname": "table-00000000",
        "cpu_info": {"arch": "x86_64", "model": "fake", "vendor": "novella", "features": ["avx", "avx2", "sse4_2"],
                     "topology": {"cores": 16, "threads": 2, "sockets": 2}},
        "novella": {"uuid": "6f1f8c1e-0000-4000-8000-000000000000", "incarnation": 1790000000000, "nonce": 17281728172817281,
                    "seq": 100, "sent_at": "2026-01-01T00:00:00.000Z", "interval_ms": 10000,
                    "reserved": {"vcpus": 0, "memory_mb": 512, "disk_gb": 0},
                    "allocation_ratios": {"cpu": 4.0, "ram": 1.0, "disk": 1.0}, "claims": [], "measured": {}},
    }
)  # fmt: skip

SCHEMA = """
SET client_min_messages = warning;
DROP TABLE IF EXISTS compute_nodes;
CREATE TABLE compute_nodes (
    host text PRIMARY KEY, vcpus int NOT NULL, memory_mb int NOT NULL, local_gb int NOT NULL, vcpus_used int NOT NULL,
    memory_mb_used int NOT NULL, local_gb_used int NOT NULL, running_vms int NOT NULL, hypervisor_type text NOT NULL,
    hypervisor_version int NOT NULL, cpu_allocation_ratio float NOT NULL, ram_allocation_ratio float NOT NULL,
    disk_allocation_ratio float NOT NULL, seq bigint NOT NULL, updated_at timestamptz NOT NULL, report text NOT NULL
) WITH (fillfactor = 50);
"""

FILL = """
INSERT INTO compute_nodes
SELECT 'table-' || lpad(n::text, 8, '0'), 64, 262144, 4000, (random() * 60)::int, (random() * 250000)::int, (random() * 3900)::int, 3,
       'fake', 1000000, 4.0, 1.0, 1.0, 0, now(), :'report'
FROM generate_series((SELECT count(*) FROM compute_nodes) + 1, :hosts) AS n;
VACUUM ANALYZE compute_nodes;
"""

UPSERT = """\\set n random(1, :hosts)
\\set vcpus random(0, 60)
\\set memory random(0, 250000)
\\set disk random(0, 3900)
INSERT INTO compute_nodes VALUES ('table-' || lpad(:n::text, 8, '0'), 64, 262144, 4000, :vcpus, :memory, :disk, 3, 'fake', 1000000,
    4.0, 1.0, 1.0, 1, now(), :report)
ON CONFLICT (host) DO UPDATE SET vcpus = excluded.vcpus, memory_mb = excluded.memory_mb, local_gb = excluded.local_gb,
    vcpus_used = excluded.vcpus_used, memory_mb_used = excluded.memory_mb_used, local_gb_used = excluded.local_gb_used,
    running_vms = excluded.running_vms, hypervisor_type = excluded.hypervisor_type, hypervisor_version = excluded.hypervisor_version,
    cpu_allocation_ratio = excluded.cpu_allocation_ratio, ram_allocation_ratio = excluded.ram_allocation_ratio,
    disk_allocation_ratio = excluded.disk_allocation_ratio, seq = compute_nodes.seq + 1, updated_at = excluded.updated_at,
    report = excluded.report;
"""

READ = "SELECT * FROM compute_nodes;\n"

# A placement that the database decides itself: hosts with room for CPUs, memory and disk, most free memory first.
PLACE = """SELECT host FROM compute_nodes
WHERE vcpus * cpu_allocation_ratio - vcpus_used >= 4 AND memory_mb * ram_allocation_ratio - memory_mb_used >= 8192
    AND local_gb * disk_allocation_ratio - local_gb_used >= 40 AND updated_at > now() - interval '60 s'
ORDER BY memory_mb * ram_allocation_ratio - memory_mb_used DESC LIMIT 4;
"""


def share_of(times, share):
    """The time within which this share ended. None if there are no times."""
    times = sorted(times)
    return times[min(len(times) - 1, math.ceil(share * len(times)) - 1)] if times else None


class Table:
    """The private cluster of scripts/postgres.sh, and pgbench as its client."""

    def __enter__(self):
        self.directory = tempfile.TemporaryDirectory()
        try:
            self.set_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        undisturbed([POSTGRES, "stop"])
        self.directory.cleanup()

    def set_up(self):
        undisturbed([POSTGRES, "start"])
        self.pid = int(run([POSTGRES, "pid"]))
        self.url = run([POSTGRES, "url"]).strip()
        self.psql, self.pgbench = (run([POSTGRES, "bin", name]).strip() for name in ("psql", "pgbench"))
        for name, script in (("upsert", UPSERT), ("read", READ), ("place", PLACE)):
            (self.path / name).write_text(script, encoding="utf-8")
        self.sql(SCHEMA)

    @property
    def path(self):
        return pathlib.Path(self.directory.name)

    def sql(self, script, **variables):
        set_variables = [f"--set={name}={value}" for name, value in variables.items()]
        run([self.psql, self.url, "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", *set_variables], input=script)

    def start(self, script, clients, *arguments, durable=False, **variables):
        """pgbench, which logs each transaction."""
        defined = [f"--define={name}={value}" for name, value in variables.items()]
        options = f"-c synchronous_commit={'on' if durable else 'off'}"
        return subprocess.Popen(
            [self.pgbench, self.url, "--no-vacuum", "--protocol=prepared", f"--file={self.path / script}", f"--client={clients}",
             "--log", f"--log-prefix={self.path / script}.log", *defined, *arguments],
            env={**os.environ, "PGOPTIONS": options}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def finish(self, process, script):
        """[(ms from when it was due, ms from when it began)] of each transaction, and how many there were per second. That counts
        from the first to the last, because pgbench's own time includes the opening of its connections."""
        _, said = process.communicate()
        if process.returncode != 0:
            raise Failed(f"pgbench {script} ended with {process.returncode}: {said[-500:]}")
        times, ends = [], []
        for log in self.path.glob(f"{script}.log.*"):
            for line in log.read_text(encoding="utf-8").splitlines():
                words = line.split()
                late = int(words[6]) if len(words) > 6 else 0
                ends.append(int(words[4]) + int(words[5]) / 1e6)
                times.append((int(words[2]) / 1e3, (int(words[2]) - late) / 1e3))
            log.unlink()
        return times, (len(ends) - 1) / (max(ends) - min(ends)) if len(ends) > 1 else 0.0


    def average(self, script, transactions):
        """Milliseconds that one takes, measured over so many in a row, from the time of the whole run, because pgbench's clock for a single
        transaction stands still if the answer is there before it looks."""
        said = run([self.pgbench, self.url, "--no-vacuum", "--protocol=prepared", f"--file={self.path / script}", f"--transactions={transactions}"],
                   stderr=subprocess.DEVNULL)  # fmt: skip
        return float(re.search(r"latency average = ([\d.]+) ms", said)[1])


def step(table, options, window, hosts, interval):
    """One row: updates at the fleet's rate and placements that read it, for `window` seconds."""
    offered = hosts / interval
    used = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    began, database, clients, machine = time.monotonic(), proc.cpu_with_children(table.pid), used(), proc.machine_busy()
    writer = table.start("upsert", WRITERS, f"--rate={offered:.3f}", f"--time={window}", hosts=hosts, report=REPORT)
    reader = table.start("read", READERS, f"--rate={options.placements}", f"--time={window}")
    reads, reads_per_s = table.finish(reader, "read")
    updates, updates_per_s = table.finish(writer, "upsert")
    seconds = time.monotonic() - began
    database, clients, machine = (
        100 * (now - then) / seconds
        for now, then in ((proc.cpu_with_children(table.pid), database), (used(), clients), (proc.machine_busy(), machine))
    )
    row = {
        "part": "table",
        "hosts": hosts,
        "interval_s": interval,
        "seconds": window,
        "offered_per_s": offered,
        "arrived_per_s": updates_per_s,
        "lag_p50_ms": share_of([due for due, _ in updates], 0.5),
        "lag_p99_ms": share_of([due for due, _ in updates], 0.99),
        "database_cpu": database,
        "client_cpu": clients,
        "machine_cpu": machine,
        "reads_per_s": reads_per_s,
        "read_p50_ms": share_of([taken for _, taken in reads], 0.5),
        "read_p99_ms": share_of([taken for _, taken in reads], 0.99),
        "sql_ms": table.average("place", SQL_PLACEMENTS),
        "database_mb": proc.shared_memory(table.pid) / 2**20,
    }
    row["kept"], row["limit"] = verdict(row)
    return row


def verdict(row):
    """Whether updates were kept up with, and which limit was reached first: that of updates or of reads."""
    updates = enough(row["arrived_per_s"], row["offered_per_s"], row["seconds"]) and (row["lag_p99_ms"] or 0) <= row["interval_s"] * 1e3
    # Reads fall behind as soon as the readers are always busy.
    reads = row["reads_per_s"] * (row["read_p50_ms"] or 0) / 1e3 < 0.9 * READERS
    said = f"database {row['database_cpu']:.0f} %, its clients {row['client_cpu']:.0f} % of a core"
    if updates and reads:
        return True, f"none; {said}"
    what = "reading the fleet for each placement" if not reads else "updates"
    if not updates and not reads:
        what = "updates and reading the fleet share the CPU"
    return updates, f"{what}: {said}"


def most(table, window, hosts, durable):
    """A row with as many upserts as possible, and no reads meanwhile."""
    database = proc.cpu_with_children(table.pid)
    writer = table.start("upsert", WRITERS, f"--time={window}", durable=durable, hosts=hosts, report=REPORT)
    _, rate = table.finish(writer, "upsert")
    used = 100 * (proc.cpu_with_children(table.pid) - database) / window
    return {"part": "most", "hosts": hosts, "durable": durable, "arrived_per_s": rate, "database_cpu": used}


def tell(row):
    """Prints a row as soon as it is measured."""
    ms = lambda value: "-" if value is None else f"{value:.1f}"
    print(
        f"{row['hosts']:>6,} hosts every {row['interval_s']} s: {row['arrived_per_s']:,.0f} of {row['offered_per_s']:,.0f} upserts/s, lag p50 "
        f"{ms(row['lag_p50_ms'])} p99 {ms(row['lag_p99_ms'])} ms, full read p50 {ms(row['read_p50_ms'])} p99 {ms(row['read_p99_ms'])} ms "
        f"{row['reads_per_s']:.1f}/s, placed in SQL {ms(row['sql_ms'])} ms, machine {row['machine_cpu']:.0f} %. Limit: {row['limit']}",
        flush=True,
    )


def climb(options, budget):
    """Rows of the table, and why it ended."""
    rows, intervals, took, hosts = [], list(INTERVALS), 0.0, 0
    window = max(3, options.window // 2)
    with Table() as table:
        for next_hosts in LADDER:
            if rows and budget.left() < took + 3 * window:
                break
            began, hosts = time.monotonic(), next_hosts
            table.sql(FILL, hosts=hosts, report=REPORT)
            for interval in list(intervals):
                if rows and budget.left() < 3 * window:
                    break
                row = step(table, options, window, hosts, interval)
                rows.append(row)
                tell(row)
                if not row["kept"]:
                    intervals.remove(interval)
            took = time.monotonic() - began
        rates = [most(table, window, hosts, durable) for durable in (False, True)]
    relaxed, durable = (row["arrived_per_s"] for row in rates)
    said = f"stopped at {hosts:,} hosts; maximum {relaxed:,.0f} upserts/s, or {durable:,.0f} if each waits for the disk"
    return rows + rates, said
