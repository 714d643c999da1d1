#!/usr/bin/env python3
"""Real oslo.messaging, driven line by line: one JSON object per line on standard input is a command, one per line on
standard output is its answer, under the same "id". tests/interop/python.rs is the other end.

Commands run beside one another, each in a thread, as the threads of a service would. A transport is made once per URL
and list of allowed remote exceptions, and kept. The process ends with its input.
"""

import json
import os
import shutil
import sys
import tempfile
import threading
import time
import traceback
import urllib.parse
import warnings

warnings.filterwarnings("ignore")  # of eventlet, which nobody here uses

import oslo_messaging
from oslo_concurrency import lockutils
from oslo_config import cfg

PATIENCE = 60  # seconds for what should take none
answers = sys.stdout
sys.stdout = sys.stderr  # whatever a library prints is no answer
answering = threading.Lock()
transports = {}
transports_lock = threading.Lock()
servers = {}


class Custom(Exception):
    """An exception that no caller knows."""


class Serializer(oslo_messaging.Serializer):
    """Passes contexts and entities as they are."""

    def serialize_entity(self, ctxt, entity):
        return entity

    deserialize_entity = serialize_entity

    def serialize_context(self, ctxt):
        return dict(ctxt)

    deserialize_context = serialize_context


class Endpoint:
    """What a Python service answers. Everything that is executed is noted, in order."""

    def __init__(self, target):
        self.target = oslo_messaging.Target(**target)
        self.executed = []
        self.changed = threading.Condition()

    def _note(self, method, ctxt, args):
        with self.changed:
            self.executed.append({"method": method, "args": args, "context": ctxt})
            self.changed.notify_all()

    def echo(self, ctxt, **args):
        self._note("echo", ctxt, args)
        return args

    def value(self, ctxt, value):
        return value

    def slow(self, ctxt, seconds, value=None):
        self._note("slow", ctxt, {"seconds": seconds})
        time.sleep(seconds)
        return value

    def fail(self, ctxt, kind):
        raise {"ValueError": ValueError, "Custom": Custom}[kind](f"{kind} as asked: größer, 漢字")

    def update_service_capabilities(self, ctxt, service_name, host, capabilities):
        self._note(
            "update_service_capabilities",
            ctxt,
            {"service_name": service_name, "host": host, "capabilities": capabilities},
        )


def transport(command):
    """Options go into the URL: oslo.messaging reads some others from the one global configuration, whatever it is given."""
    url, options = command["url"], urllib.parse.urlencode(command.get("options", {}))
    if options:
        url += ("&" if "?" in url else "?") + options
    allowed = command.get("allowed", [])
    with transports_lock:
        key = (url, *allowed)
        if key not in transports:
            transports[key] = oslo_messaging.get_rpc_transport(cfg.CONF, url=url, allowed_remote_exmods=allowed)
        return transports[key]


def client(command):
    target = oslo_messaging.Target(**{k: v for k, v in command["target"].items() if k != "fanout"})
    found = oslo_messaging.get_rpc_client(
        transport(command),
        target,
        timeout=command.get("timeout", PATIENCE),
        call_monitor_timeout=command.get("call_monitor_timeout"),
        serializer=Serializer(),
    )
    return found.prepare(fanout=True) if command["target"].get("fanout") else found


def call(command):
    return client(command).call(command.get("context", {}), command["method"], **command.get("args", {}))


def cast(command):
    found, args = client(command), command.get("args", {})
    for number in range(command.get("times", 1)):
        numbered = {"number": number} if "times" in command else {}
        found.cast(command.get("context", {}), command["method"], **args, **numbered)


def serve(command):
    endpoint = Endpoint(command.get("endpoint", {}))
    target = oslo_messaging.Target(**command["target"])
    server = oslo_messaging.get_rpc_server(
        transport(command), target, [endpoint], executor="threading", serializer=Serializer()
    )
    server.start()
    servers[command["name"]] = (server, endpoint)


def stop(command):
    server, _ = servers.pop(command["name"])
    server.stop()
    server.wait()


def executed(command):
    """What a server has executed, once it is at least so much."""
    _, endpoint = servers[command["name"]]
    with endpoint.changed:
        endpoint.changed.wait_for(lambda: len(endpoint.executed) >= command["least"], PATIENCE)
        return list(endpoint.executed)


def parse(command):
    """What oslo.messaging reads from a transport URL."""
    url = oslo_messaging.TransportURL.parse(cfg.CONF, command["url"])
    hosts = [[host.hostname, host.port, host.username, host.password] for host in url.hosts]
    return {"virtual_host": url.virtual_host, "hosts": hosts}


def versions(_):
    from importlib import metadata

    return {name: metadata.version(name) for name in ("oslo.messaging", "kombu", "amqp")}


COMMANDS = {f.__name__: f for f in (call, cast, serve, stop, executed, parse, versions)}


def raised(error):
    return {
        "class": type(error).__name__,
        "module": type(error).__module__,
        "bases": [base.__name__ for base in type(error).__mro__],
        "text": str(error),
        "exc_type": getattr(error, "exc_type", None),
        "value": getattr(error, "value", None),
        "trace": traceback.format_exc(),
    }


def perform(command):
    try:
        answer = {"returned": COMMANDS[command["do"]](command)}
    except BaseException as error:
        answer = {"raised": raised(error)}
    answer["id"] = command["id"]
    with answering:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main():
    cfg.CONF([], project="peer", default_config_files=[])
    locks = tempfile.mkdtemp()  # what the queue manager counts is kept between its processes
    lockutils.set_defaults(locks)
    for line in sys.stdin:
        threading.Thread(target=perform, args=(json.loads(line),), daemon=True).start()
    shutil.rmtree(locks)
    os._exit(0)  # servers still running are the other end's to stop, and it is gone


main()
