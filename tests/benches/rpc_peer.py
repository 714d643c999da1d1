#!/usr/bin/env python3
"""oslo.messaging's client and server, measured: rpc_peer.py RABBIT_URL. tests/benches/rpc.rs is the other end.

The server is a process of its own and ends with the client. Each line on standard input is a number of callers; its
answer is the median time of one caller's call in seconds, and the calls per second of so many callers.
"""

import statistics
import subprocess
import sys
import threading
import time
import warnings

warnings.filterwarnings("ignore")  # of eventlet, which nobody here uses

import oslo_messaging
from oslo_config import cfg

TOPIC = "novella-bench-python"
SINGLE = 100  # one after the other
CALLS = 40  # of each caller


class Endpoint:
    target = oslo_messaging.Target(namespace="baseapi", version="1.1")

    def ping(self, ctxt, arg):
        return {"service": "scheduler", "arg": arg}


def serve(transport):
    target = oslo_messaging.Target(topic=TOPIC, server="bench")
    server = oslo_messaging.get_rpc_server(transport, target, [Endpoint()], executor="threading")
    server.start()
    print("serving", flush=True)
    sys.stdin.read()  # it ends with the client


def measure(client, callers):
    call = lambda: client.call({}, "ping", arg=None)

    def timed():
        began = time.perf_counter()
        call()
        return time.perf_counter() - began

    p50 = statistics.median(timed() for _ in range(SINGLE))
    threads = [threading.Thread(target=lambda: [call() for _ in range(CALLS)]) for _ in range(callers)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return p50, callers * CALLS / (time.perf_counter() - began)


def main():
    cfg.CONF([], project="bench", default_config_files=[])
    url, *role = sys.argv[1:]
    transport = oslo_messaging.get_rpc_transport(cfg.CONF, url=url)
    if role:
        return serve(transport)
    command = [sys.executable, __file__, url, "server"]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout.readline() == "serving\n"
    target = oslo_messaging.Target(topic=TOPIC, namespace="baseapi", version="1.0")
    client = oslo_messaging.get_rpc_client(transport, target, timeout=60)
    for _ in range(5):
        client.call({}, "ping", arg=None)  # connections and queues
    for line in sys.stdin:
        print(*measure(client, int(line)), flush=True)


main()
