"""A growing fleet on a real RabbitMQ: `novella swarm`, one or two schedulers, placements meanwhile.

A fleet grows by starting another swarm, so that the hosts that are there need not start again, and shrinks by ending the
last. Each step is one window: counters and CPU times are read before and after it, and the differences are the row. The
times of reports come from the scheduler's own histogram, `novella_scheduler_report_lag_seconds`.
"""

import json
import math
import os
import re
import subprocess
import time
import urllib.request

import proc
from measure import BINARIES, ROOT, Daemon, Failed, free_port, run, undisturbed

RABBIT = ROOT / "scripts" / "rabbitmq.sh"
LADDER = (100, 1_000, 3_000, 6_000, 10_000, 20_000, 50_000)
HOSTS_PER_CONNECTION = 500
# The share of its open files that RabbitMQ uses for sockets.
SOCKETS_PER_FILE = 0.9
FILES_FOR_ITSELF = 100
# A step is kept up with if this share of the expected reports arrived, and 99 of 100 reports took at most one interval.
KEPT = 0.95
BISECTIONS = 3
# A start of hosts is a burst, and so is that of a scheduler, which asks all hosts to report. A burst may take this many seconds
# to pass, and one more for so many hosts.
SETTLE_LIMIT = 8
HOSTS_PER_SETTLING_SECOND = 300
ROOM_MB = 2048  # left free, so that the machine does not swap


def lag_buckets(text):
    """[(upper bound in s, count up to it)] of the scheduler's histogram."""
    rows = re.findall(r'novella_scheduler_report_lag_seconds_bucket\{le="([^"]+)"\} (\d+)', text)
    if not rows:
        raise Failed("/metrics of the scheduler has no novella_scheduler_report_lag_seconds")
    return [(float(bound.replace("+Inf", "inf")), int(count)) for bound, count in rows]


def counted(text, sample):
    """The value of one counter, given as /metrics writes it."""
    found = re.search(rf"^{re.escape(sample)} (\d+)$", text, re.MULTILINE)
    if found is None:
        raise Failed(f"/metrics of the scheduler has no {sample}")
    return int(found[1])


def quantile(before, after, share):
    """A quantile in seconds, from the difference of two readings, interpolated within a bucket as Prometheus does. None if
    nothing was counted."""
    counts = [(bound, after_count - before_count) for (bound, after_count), (_, before_count) in zip(after, before)]
    rank, lower, below = counts[-1][1] * share, 0.0, 0
    if counts[-1][1] == 0:
        return None
    for bound, count in counts:
        if count >= rank:
            return lower if math.isinf(bound) else lower + (bound - lower) * (rank - below) / max(1, count - below)
        lower, below = bound, count
    return lower


class Scheduler(Daemon):
    """A scheduler with room for any fleet."""

    def __init__(self, name):
        room = {"NOVELLA_REPORTS__MAX_HOSTS": "200000", "NOVELLA_REPORTS__NEW_HOSTS_PER_MINUTE": "200000"}
        super().__init__("scheduler", "--name", name, port=free_port(), **room)

    def metrics(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            return answer.read().decode()

    def reading(self):
        text = self.metrics()
        return {
            "lag": lag_buckets(text),
            "accepted": counted(text, 'novella_scheduler_reports_total{outcome="accepted"}'),
            "missed": counted(text, 'novella_scheduler_events_total{event="missed"}'),
            "cpu": proc.cpu(self.process.pid),
            "threads": proc.threads_cpu(self.process.pid),
        }


class Fleet:
    """Swarms that share a name prefix, and the schedulers that they report to."""

    def __init__(self, prefix, interval, own_connections):
        self.prefix, self.interval, self.own_connections = prefix, interval, own_connections
        self.swarms, self.schedulers = [], []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # They are killed: thousands of goodbyes would take longer than the measurement, and the broker is stopped too.
        for daemon in [*(swarm for swarm, _, _ in self.swarms), *self.schedulers]:
            if daemon.process.poll() is None:
                daemon.process.kill()
            daemon.process.wait()

    @property
    def hosts(self):
        return sum(hosts for _, hosts, _ in self.swarms)

    @property
    def connections(self):
        return sum(connections for _, _, connections in self.swarms)

    def grow(self, hosts, budget):
        """Adds the missing hosts. Returns the seconds until all hold their queues."""
        more = hosts - self.hosts
        connections = more if self.own_connections else -(-more // HOSTS_PER_CONNECTION)
        swarm = Daemon(
            "novella", "swarm", f"--hosts={more}", f"--interval={self.interval}s", f"--connections={connections}",
            f"--name-prefix={self.prefix}{hosts}-", "--timeout=60s",
        )  # fmt: skip
        self.swarms.append((swarm, more, connections))

        def started():
            if budget.left() < 0:
                raise Failed(f"{more:,} agents did not start in the time given")
            return swarm.said("hold their queues")

        return swarm.wait("all agents hold their queues", started, every=0.05)

    def shrink(self, hosts):
        """Kills the swarms beyond this many hosts, as a power cut would, because their goodbyes would be load as well."""
        while self.hosts > hosts:
            swarm, _, _ = self.swarms.pop()
            swarm.process.kill()
            swarm.process.wait()

    def schedule(self, count):
        """Makes this many schedulers run."""
        while len(self.schedulers) > count:
            with self.schedulers.pop():
                pass
        while len(self.schedulers) < count:
            daemon = Scheduler(f"scale-{len(self.schedulers) + 1}")
            self.schedulers.append(daemon)
            daemon.wait("ready", daemon.ready)

    def settle(self, budget):
        """Waits until all hosts are in every map and the burst of a start has passed, or as long as that may take. Returns false if
        the time given is used up before."""
        until = time.monotonic() + SETTLE_LIMIT + self.hosts / HOSTS_PER_SETTLING_SECOND
        while time.monotonic() < until:
            if budget.left() < 0:
                return False
            before = [one.reading()["lag"] for one in self.schedulers]
            time.sleep(1)
            after = [one.reading()["lag"] for one in self.schedulers]
            lags = [quantile(b, a, 0.99) for b, a in zip(before, after)]
            calm = all((lag or 0) < min(1, self.interval / 2) for lag in lags)
            if calm and all(one.hosts_up() >= self.hosts for one in self.schedulers):
                break
        return True

    def published(self):
        """Reports per second and failures so far, from the last lines of the swarms' output."""
        rate, failures = 0.0, 0
        for swarm, _, _ in self.swarms:
            said = re.findall(r"([\d.]+) reports/s  (\d+) failures", swarm.output())
            if said:
                rate, failures = rate + float(said[-1][0]), failures + int(said[-1][1])
        return rate, failures


# Runs inside the broker: each second it writes the number of messages in all schedulers' report queues to a file. Running
# rabbitmqctl each time would cost seconds of CPU, and AMQP cannot be used, because the queues are exclusive.
WATCH_DEPTH = """
spawn(fun() -> (fun Again() ->
    Depth = fun(Name) ->
        case rabbit_amqqueue:lookup(Name) of
            {ok, Queue} -> proplists:get_value(messages, rabbit_amqqueue:info(Queue, [messages]), 0);
            _ -> 0
        end
    end,
    Names = [N || N = {resource, _, queue, <<"scheduler_fanout_", _/binary>>} <- rabbit_amqqueue:list_names()],
    catch file:write_file("FILE", integer_to_list(lists:sum([Depth(N) || N <- Names]))),
    timer:sleep(1000),
    Again()
end)() end).
"""


class Broker:
    """The private node of scripts/rabbitmq.sh."""

    def __enter__(self):
        self.depth_file = ROOT / "target" / "scale" / "depth"
        self.depth_file.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.kill()
        undisturbed([RABBIT, "stop"])  # its epmd

    def start(self):
        """Starts a new node, with nothing of the last fleet in its memory. Its old data is not needed."""
        self.kill()
        undisturbed([RABBIT, "start"])
        self.pid = int(run([RABBIT, "pid"]))
        os.environ["NOVELLA_TRANSPORT_URL"] = run([RABBIT, "url"]).strip()
        self.depth_file.unlink(missing_ok=True)
        run([RABBIT, "ctl", "eval", WATCH_DEPTH.replace("FILE", str(self.depth_file))])

    def kill(self):
        if run([RABBIT, "status"]).strip() != "stopped":
            undisturbed([RABBIT, "kill9"])

    def depth(self):
        """Messages in the schedulers' report queues, at most a second ago. None if the broker is too busy to count."""
        try:
            if time.time() - self.depth_file.stat().st_mtime > 5:
                return None
            return int(self.depth_file.read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return None


def placements(per_second, seconds):
    """Requests placements and returns the swarm's summary of them."""
    command = [BINARIES / "novella", "swarm", "--hosts=0", f"--placements={per_second}", f"--for={seconds}s", "-f", "json"]
    return json.loads(run(command, stderr=subprocess.DEVNULL))["placements"]


def measure_step(fleet, broker, options, start_s):
    """One row: what happens within `options.window` seconds."""

    def reading():
        return {
            "at": time.monotonic(),
            "broker": proc.cpu(broker.pid),
            "swarm": sum(proc.cpu(swarm.process.pid) for swarm, _, _ in fleet.swarms),
            "machine": proc.machine_busy(),
            "schedulers": [one.reading() for one in fleet.schedulers],
        }

    before = reading()
    placed = placements(options.placements, options.window)
    after = reading()
    seconds = after["at"] - before["at"]
    share = lambda key: 100 * (after[key] - before[key]) / seconds
    pairs = list(zip(before["schedulers"], after["schedulers"]))
    arrived = min(a["accepted"] - b["accepted"] for b, a in pairs) / seconds
    busiest = max(
        ((100 * (used - b["threads"].get(thread, 0)) / seconds, thread[1]) for b, a in pairs for thread, used in a["threads"].items())
    )
    published, failures = fleet.published()
    worst = lambda share: max((quantile(b["lag"], a["lag"], share) or 0.0 for b, a in pairs))
    row = {
        "hosts": fleet.hosts,
        "interval_s": fleet.interval,
        "schedulers": len(fleet.schedulers),
        "connections": fleet.connections,
        "start_s": start_s,
        "seconds": seconds,
        "offered_per_s": fleet.hosts / fleet.interval,
        "published_per_s": published,
        "arrived_per_s": arrived,
        "lag_p50_ms": worst(0.5) * 1e3,
        "lag_p99_ms": worst(0.99) * 1e3,
        "depth": broker.depth(),
        "missed": max(a["missed"] - b["missed"] for b, a in pairs),
        "failures": failures,
        "broker_cpu": share("broker"),
        "scheduler_cpu": 100 * sum(a["cpu"] - b["cpu"] for b, a in pairs) / seconds,
        "swarm_cpu": share("swarm"),
        "machine_cpu": share("machine"),
        "scheduler_thread_cpu": busiest[0],
        "scheduler_thread": busiest[1],
        "place_p50_ms": placed["p50_ms"],
        "place_p99_ms": placed["p99_ms"],
        "place_failed": placed["failed"],
        "broker_mb": proc.memory(broker.pid) / 2**20,
        "scheduler_mb": max(proc.memory(one.process.pid) for one in fleet.schedulers) / 2**20,
        "swarm_mb": sum(proc.memory(swarm.process.pid) for swarm, _, _ in fleet.swarms) / 2**20,
    }
    row["kept"], row["limit"] = verdict(row)
    return row


def enough(rate, offered, seconds):
    """Whether as much arrived as was due, apart from the random variation of small numbers."""
    return rate * seconds >= KEPT * offered * seconds - 3 * math.sqrt(offered * seconds) - 1


def waiting(row):
    return "an unknown number" if row["depth"] is None else f"{row['depth']:,}"


def verdict(row):
    """Whether the step was kept up with, and which limit it reached first or is nearest to."""
    came = lambda key: enough(row[key], row["offered_per_s"], row["seconds"])
    kept = came("arrived_per_s") and row["lag_p99_ms"] <= row["interval_s"] * 1e3
    cores = os.cpu_count()
    users = {"broker": row["broker_cpu"], "scheduler": row["scheduler_cpu"], "generator": row["swarm_cpu"]}
    most = max(users, key=users.get)
    if kept:
        return True, f"none; {most} {users[most]:.0f} % of a core"
    users["other work"] = max(0.0, row["machine_cpu"] - sum(users.values()))
    if row["machine_cpu"] >= 85 * cores:
        shares = ", ".join(f"{name} {used:.0f} %" for name, used in sorted(users.items(), key=lambda user: -user[1]) if used >= 5)
        return False, f"CPU of the machine: {shares}"
    if row["scheduler_thread_cpu"] >= 90:
        what = "client library" if "lapin" in row["scheduler_thread"] else "map"
        return False, f"{what}: thread {row['scheduler_thread']} {row['scheduler_thread_cpu']:.0f} % of a core"
    if row["depth"] is not None and row["depth"] < row["offered_per_s"] and not came("published_per_s"):
        return False, f"broker takes no more: {most} {users[most]:.0f} % of a core"
    return False, f"report queue: {waiting(row)} waiting, broker {row['broker_cpu']:.0f} % of a core"


def barred(hosts, own_connections, files):
    """Why a step of this many hosts cannot be started here. None if it can."""
    sockets = int(SOCKETS_PER_FILE * (files - FILES_FOR_ITSELF))
    if own_connections and hosts + FILES_FOR_ITSELF > sockets:
        return f"connections: with {files:,} open files (ulimit -n) a broker has {sockets:,} sockets"
    with open("/proc/meminfo", encoding="utf-8") as meminfo:
        free_mb = int(re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read())[1]) / 1024
    if free_mb < ROOM_MB:
        return f"memory: {free_mb:,.0f} MB free"
    return None


class Climb:
    """One part: tries growing fleets while the time lasts, then searches for the size that is no longer kept up with."""

    def __init__(self, name, fleet, broker, options, budget):
        self.name, self.fleet, self.broker, self.options, self.budget = name, fleet, broker, options, budget
        self.rows, self.start_s, self.started_per_s = [], 0.0, 100.0

    def step(self, hosts, counts):
        """Grows the fleet and measures it with each of so many schedulers; which of these kept up, or nothing if the time is
        used up before the first is measured."""
        more, kept = hosts - self.fleet.hosts, None
        self.fleet.schedule(min(1, len(self.fleet.schedulers)))  # one scheduler, because a start is load enough
        self.start_s = self.fleet.grow(hosts, self.budget)
        self.started_per_s = more / self.start_s
        for count in counts:
            if self.rows and self.budget.left() < self.options.window:
                break
            began = time.monotonic()
            self.fleet.schedule(count)
            if not self.fleet.settle(self.budget):
                break
            settled = time.monotonic() - began
            row = {"part": self.name, "settle_s": settled, **measure_step(self.fleet, self.broker, self.options, self.start_s)}
            self.rows.append(row)
            tell(row)
            kept = (kept or []) + [count] * row["kept"]
        return kept

    def too_little_time(self, hosts):
        """Whether there is too little time to measure a step of this many hosts with one scheduler, judged by the last start."""
        starting = (hosts - self.fleet.hosts) / self.started_per_s
        return self.rows and self.budget.left() < starting + self.options.window + 3

    def climb(self, counts):
        """Why it ended."""
        for hosts in LADDER:
            reason = barred(hosts, self.fleet.own_connections, self.options.files)
            if not reason and self.too_little_time(hosts):
                reason = "the time limit was reached"
            if reason:
                return f"{hosts:,} hosts not tried: {reason}"
            good = self.fleet.hosts
            try:
                still = self.step(hosts, counts)
                if still is None:
                    return f"{hosts:,} hosts not measured: their start took the rest of the time"
                if 1 not in still:
                    return self.narrow(good, hosts)
            except Failed as failed:
                return f"{hosts:,} hosts: {str(failed).splitlines()[0]}"
            counts = still
        return f"kept up with {self.fleet.hosts:,} hosts, the last step there is"

    def narrow(self, good, bad):
        """Bisects between a fleet that is kept up with by one scheduler and one that is not."""
        for _ in range(BISECTIONS if good else 0):
            middle = int(round(math.sqrt(good * bad), -2))
            if not good < middle < bad:
                break
            self.fleet.shrink(good)
            if self.too_little_time(middle):
                break
            still = self.step(middle, [1])
            if still is None:
                break
            good, bad = (middle, bad) if still else (good, middle)
        met = [row["limit"] for row in self.rows if row["hosts"] == bad and not row["kept"]]
        return f"kept up with {good:,} hosts, not with {bad:,}: {met[0]}"


def climb(name, broker, options, budget, interval, own_connections=False):
    """Rows of one part, and why it ended."""
    with Fleet(f"{name}-", interval, own_connections) as fleet:
        part = Climb(name, fleet, broker, options, budget)
        ended = part.climb([1] if own_connections else [1, 2])
        return part.rows, ended


def tell(row):
    """Prints a row as soon as it is measured."""
    placed = "-" if row["place_p99_ms"] is None else f"{row['place_p99_ms']:.1f}"
    print(
        f"{row['hosts']:>6,} hosts every {row['interval_s']} s, schedulers {row['schedulers']}, connections {row['connections']:,}: "
        f"{row['arrived_per_s']:,.0f} of {row['offered_per_s']:,.0f}/s, lag p50 {row['lag_p50_ms']:.0f} p99 {row['lag_p99_ms']:.0f} ms, "
        f"placement p99 {placed} ms, {waiting(row)} waiting, CPU broker {row['broker_cpu']:.0f} scheduler {row['scheduler_cpu']:.0f} "
        f"swarm {row['swarm_cpu']:.0f} machine {row['machine_cpu']:.0f} %. Limit: {row['limit']}",
        flush=True,
    )
