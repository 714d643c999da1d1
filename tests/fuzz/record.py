#!/usr/bin/env python3
"""Records the corpus: every message that real oslo.messaging and our own programs send one another on a real RabbitMQ.

    record.py RABBIT_URL DIRECTORY_OF_OUR_EXECUTABLES > corpus.jsonl

Runs in the virtual environment of scripts/conformance.sh, against a broker of which nothing else makes use and whose
firehose is on (scripts/rabbitmq.sh ctl trace_on). One line per message: who it is from or to, and its body as text. Of
messages that differ in nothing but numbers and names of one run, the first is kept.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings

warnings.filterwarnings("ignore")  # of eventlet, which nobody here uses

import kombu
import oslo_messaging
from oslo_config import cfg

LARGEST = 16_000  # bytes of a body that is worth keeping


class Endpoint:
    target = oslo_messaging.Target(version="1.3")

    def echo(self, ctxt, **args):
        return args

    def slow(self, ctxt, seconds):
        time.sleep(seconds)

    def fail(self, ctxt):
        raise ValueError("as asked: größer, 漢字")


def peers(url):
    """Both ends in Python: calls with and without a monitor, failures, casts, and the reporters of 2012."""
    transport = oslo_messaging.get_rpc_transport(cfg.CONF, url=url)
    target = oslo_messaging.Target(topic="recorded", server="p1")
    server = oslo_messaging.get_rpc_server(transport, target, [Endpoint()], executor="threading")
    server.start()
    context = {"user": "u1", "is_admin": True, "request_id": "req-1", "roles": ["admin", "größer"]}
    client = oslo_messaging.get_rpc_client(transport, oslo_messaging.Target(topic="recorded", version="1.0"), timeout=20)
    client.call(context, "echo", a=1, b="é", c=[None, 1.5, {"d": "漢字 😀"}])
    client.prepare(call_monitor_timeout=2).call(context, "slow", seconds=3)
    for method, version in (("fail", "1.0"), ("absent", "1.0"), ("echo", "1.9")):
        try:
            client.prepare(version=version).call(context, method)
        except (oslo_messaging.RemoteError, ValueError):
            pass
    client.prepare(namespace="baseapi").cast({}, "ping", arg="x")
    compute = {"vcpus": 16, "vcpus_used": 2, "disk_total": 500, "disk_used": 20, "disk_available": 480,
               "host_memory_total": 65536, "host_memory_free": 60000, "hypervisor_type": "QEMU",
               "hypervisor_version": 1000000, "hypervisor_hostname": "cmp1",
               "cpu_info": json.dumps({"arch": "x86_64", "features": ["vmx"], "topology": {"cores": 8}})}
    volume = {"total_capacity_gb": 1000.5, "free_capacity_gb": "infinite", "reserved_percentage": 10,
              "volume_backend_name": "LVM", "storage_protocol": "iSCSI", "QoS_support": False}
    for version, service, capabilities in (
        ("1.0", "compute", compute), ("2.4", "compute", [compute, {**compute, "hypervisor_hostname": "cmp2"}]),
        ("1.0", "volume", volume), ("2.4", "volume", [volume]), ("1.0", "network", None),
    ):
        reporter = oslo_messaging.get_rpc_client(transport, oslo_messaging.Target(topic="scheduler", version=version))
        reporter.prepare(fanout=True).cast(
            context, "update_service_capabilities", service_name=service, host="cmp1", capabilities=capabilities
        )
    server.stop()
    server.wait()


SMALL = ["--vcpus", "1", "--ram", "64M"]
LARGE = ["--vcpus", "500", "--ram", "64M"]
REQUESTS = [
    ["host", "list"], ["host", "show", "recorded-1"], ["service", "list"], ["scheduler", "status"], ["policy", "show"],
    ["policy", "reload"], ["ping"], ["ping", "recorded-1"],
    ["place", *SMALL], ["place", *LARGE], ["place", *SMALL, "--count", "3", "--alternates", "2"],
    ["place", *SMALL, "--hint", "build_near_host_ip=10.0.0.1", "--az", "nova", "--extra-spec", "hw:numa_nodes=1", "--project", "p1"],
    ["explain", *LARGE, "--fix"], ["explain", *SMALL, "--host", "recorded-1"],
    ["capacity", *SMALL, "--by", "host"], ["snapshot"],
]


def ours(url, binaries):
    """Our daemons and the command line."""
    started = []
    with tempfile.TemporaryDirectory() as state:
        asking = {**os.environ, "NOVELLA_TRANSPORT_URL": url}
        serving = {**asking, "NOVELLA_HTTP__LISTEN": "127.0.0.1:0"}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        run = lambda *command: started.append(subprocess.Popen(command, env=serving, **quiet))
        run(f"{binaries}/scheduler", "--name", "s1")
        run(f"{binaries}/compute-agent", "--state-dir", state, "--host", "recorded-1")
        run(f"{binaries}/novella", "swarm", "--hosts", "3", "--interval", "2s", "--connections", "1")
        time.sleep(15)
        for request in REQUESTS:
            done = subprocess.run([f"{binaries}/novella", *request], env=asking, text=True, check=False,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            if done.returncode > 1:  # 1: no host fits
                sys.exit(f"novella {' '.join(request)}: {done.stderr}")
            found = re.search(r"\bs1-[0-9a-f]+-[0-9a-f]+\b", done.stdout)
            if found and request[0] == "place":
                subprocess.run([f"{binaries}/novella", "explain", found[0]], env=asking, check=False, **quiet)
                subprocess.run([f"{binaries}/novella", "release", found[0]], env=asking, check=False, **quiet)
        for process in started:
            process.terminate()
            process.wait()


def form(body):
    """What is left of a body without what differs from run to run."""
    return re.sub(r"[0-9a-f]{8}[0-9a-f-]{24,28}|[0-9]+(\.[0-9]+)?|\\u[0-9a-f]{4}", "0", body)


def main():
    url, binaries = sys.argv[1:]
    cfg.CONF([], project="record", default_config_files=[])
    plain = url.replace("rabbit://", "amqp://")
    with kombu.Connection(plain if not plain.endswith("/") else f"{plain}/") as connection:
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True).queue
        channel.queue_bind(queue, "amq.rabbitmq.trace", "publish.#")
        peers(url)
        ours(url, binaries)
        seen = set()
        while message := channel.basic_get(queue, no_ack=True):
            body = message.body if isinstance(message.body, str) else bytes(message.body).decode()
            kind = form(body)
            body = re.sub(r"/[^ \"\\\\]*/(site-packages|tests/fuzz)/", r"\1/", body)  # tracebacks tell where this machine has it
            if kind not in seen and len(body) <= LARGEST:
                seen.add(kind)
                keys = message.headers.get("routing_keys") or ["?"]
                exchange = message.headers.get("exchange_name") or "reply"
                print(json.dumps({"to": exchange, "key": keys[0][:12], "body": body}))


main()
