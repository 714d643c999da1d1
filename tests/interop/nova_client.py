#!/usr/bin/env python3
"""Nova's own scheduler client, driven line by line: one JSON object per line on standard input, one answer per line on
standard output. tests/interop/nova.rs is the other end. A request is that of a document (crates/objects), made into the
RequestSpec that Nova's conductor would send.

    nova_client.py URL    calls nova.scheduler.rpcapi.SchedulerAPI().select_destinations over RabbitMQ; a line is
                          {"request", "return_objects", "return_alternates", "cap"?, "group"?, "wire"?}
    nova_client.py        prints the primitive of each request, a line of which is a document's request: the files of
                          crates/nova-objects/tests/recorded come from it
"""

import json
import logging
import os
import sys
import warnings

warnings.filterwarnings("ignore")  # of eventlet, which nobody here uses

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "conformance"))

import nova.conf
import nova_objects
from nova import context as nova_context
from nova import objects
from nova import rpc
from nova.objects import base
from nova.scheduler import rpcapi

CONF = nova.conf.CONF


class Raw:
    """A RequestSpec whose primitive is changed on its way: what another release would send."""

    def __init__(self, spec, changes):
        self.spec, self.changes = spec, changes

    def obj_to_primitive(self):
        primitive = self.spec.obj_to_primitive()
        primitive.update(self.changes)
        return primitive


def client(cap):
    if cap:
        CONF.set_override("scheduler", cap, "upgrade_levels")
    found = rpcapi.SchedulerAPI()
    CONF.clear_override("scheduler", "upgrade_levels")
    return found


def select(context, command):
    request = command["request"]
    spec = nova_objects.request_spec(context, request)
    if spec.instance_group and "group" in command:
        spec.instance_group.uuid = command["group"]
    if "wire" in command:
        spec = Raw(spec, command["wire"])
    answer = client(command.get("cap")).select_destinations(
        context,
        spec,
        request["instance_uuids"],
        return_objects=command["return_objects"],
        return_alternates=command["return_alternates"],
    )
    if not command["return_objects"]:
        return answer
    for selection in (selection for row in answer for selection in row):
        assert isinstance(selection, objects.Selection), selection
    return [[base.obj_to_primitive(selection) for selection in row] for row in answer]


def raised(error):
    return {
        "class": type(error).__name__,
        "module": type(error).__module__,
        "bases": [f"{base.__module__}.{base.__name__}" for base in type(error).__mro__],
        "exc_type": getattr(error, "exc_type", None),
        "text": str(getattr(error, "value", None) or error),
    }


def main():
    logging.disable(logging.CRITICAL)
    objects.register_all()
    rpc.set_defaults(control_exchange="nova")
    if len(sys.argv) > 1:
        os.environ["OS_DEFAULT__TRANSPORT_URL"] = sys.argv[1]  # oslo.config reads it
    CONF([], project="nova", default_config_files=[], default_config_dirs=[])
    context = nova_context.RequestContext(user_id="user-1", project_id="project-1", is_admin=True)
    if len(sys.argv) > 1:
        rpc.init(CONF)
    for line in sys.stdin:
        command = json.loads(line)
        if len(sys.argv) == 1:
            answer = nova_objects.request_spec(context, command).obj_to_primitive()
        else:
            try:
                answer = {"returned": select(context, command)}
            except Exception as error:
                answer = {"raised": raised(error)}
        print(json.dumps(answer, sort_keys=True), flush=True)


main()
