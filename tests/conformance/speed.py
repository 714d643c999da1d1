"""What one placement takes Nova and us, on the same documents in turn: `scripts/conformance.sh speed`, `make measure ARGS=nova`.

The fleets are the recorded one of 1,000 hosts, and ten times the same under other names; the request is the first plain
one. Nova filters with its default filters and weighs with all weighers, in its own HostManager: what it asks Placement and
its database before is not in its figure. Ours runs RamFilter, CoreFilter and DiskFilter besides, places and explains; what
it takes to give that back is not in its figure. A first request of its shape, and the same again. Fastest of all samples;
of Nova its CPU time, so that other work on the machine counts less against it.
"""

import gzip
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import warnings

warnings.filterwarnings("ignore")

import fleets
import nova_objects
import nova_side

ROOT = pathlib.Path(__file__).resolve().parents[2]
ORACLE = ROOT / "crates/fleet-documents/tests/oracle"
ROUNDS = 3
DEFAULT = fleets.DEFAULT_FILTERS


def recorded(name):
    return json.loads(gzip.decompress((ORACLE / f"{name}_1000.json.gz").read_bytes()))


def fleet(times):
    """The recorded hosts, `times` over, each with a name of its own."""
    hosts = recorded("fleet")["hosts"]
    return [
        {**host, "host": f"{host['host']}-{copy}", "node": f"{host['node']}-{copy}", "instances": []} if copy else host
        for copy in range(times)
        for host in hosts
    ]


def question(times):
    request = next(request for request in recorded("requests")["requests"] if request["kind"] == "plain")
    request = {name: value for name, value in request.items() if name != "filters"}
    said = recorded("nova")
    options = {"filters": DEFAULT, "weighers": said["weighers"], **said["config"]}
    return {
        "options": options,
        "aggregates": recorded("fleet")["aggregates"],
        "hosts": fleet(times),
        "requests": [request],
    }


def nova_seconds(nova, document):
    hosts = nova_side.configure(document["options"])
    states = nova_objects.Fleet(document, nova_side.NOW).states()
    spec = nova_objects.request_spec(nova.context, document["requests"][0])
    began = time.process_time()
    left = hosts.get_filtered_hosts(states, spec, 0)
    weighed = hosts.get_weighed_hosts(left, spec)
    took = time.process_time() - began
    assert weighed, "the request must be one that finds a host"
    return took


def our_microseconds(document):
    """(first of its shape, again), each the fastest sample."""
    ours = {
        **document,
        "options": {**document["options"], "filters": [*DEFAULT, "RamFilter", "CoreFilter", "DiskFilter"]},
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(ours, file)
        file.flush()
        command = ["cargo", "bench", "--quiet", "--locked", "-p", "novella-fleet-documents", "--bench", "document"]
        environment = {**os.environ, "NOVELLA_DOCUMENT": file.name}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"the benchmark failed:\n{done.stderr}")
    _, first, _, again, _ = done.stdout.split("\t")
    return float(first), float(again)


def main():
    nova = nova_side.Nova()
    print("hosts\tNova 34 µs\tnovella µs\tnovella again µs")
    for times in (1, 10):
        document = question(times)
        rounds = []
        for _ in range(ROUNDS):
            theirs = min(nova_seconds(nova, document) for _ in range(4))
            rounds.append((theirs * 1e6, *our_microseconds(document)))
        fastest = (f"{min(column):.1f}" for column in zip(*rounds))
        print(len(document["hosts"]), *fastest, sep="\t", flush=True)


if __name__ == "__main__":
    main()
