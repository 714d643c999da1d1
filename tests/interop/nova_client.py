#!/usr/bin/env python3
"""Nova's own scheduler client, driven line by line: one JSON object per line on standard input, one answer per line on
standard output. tests/interop/nova.rs and nova_compute.rs are the other end. A request is that of a document (crates/objects), made into the
RequestSpec that Nova's conductor would send.

    nova_client.py URL    calls nova.scheduler.rpcapi.SchedulerAPI().select_destinations over RabbitMQ; a line is
                          {"request", "return_objects", "return_alternates", "cap"?, "group"?, "wire"?}, or
                          {"serve": target}: serves build_and_run_instance as a compute service there from then on, and
                          answers with the primitive of an instance
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
import oslo_messaging
from nova import context as nova_context
from nova import objects
from nova import rpc
from nova.objects import base
from nova.scheduler import rpcapi
from oslo_utils import uuidutils

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


class Compute:
    """Tells what Nova's compute manager would be given."""

    target = oslo_messaging.Target(version="6.0")

    def build_and_run_instance(self, ctxt, instance, request_spec, limits, host_list, **rest):
        def told(selection):
            limits = selection.limits
            seen = [type(limits).__name__, limits.vcpu, limits.memory_mb]
            return [type(selection).__name__, selection.service_host, selection.nodename, seen]

        seen = {
            "instance": [type(instance).__name__, instance.uuid],
            "request_spec": [type(request_spec).__name__, request_spec.num_instances],
            "host_list": [told(selection) for selection in host_list],
            "limits": limits,
        }
        return {"seen": seen, "request_id": ctxt.request_id}


def serve(context, target):
    serializer = rpc.RequestContextSerializer(base.NovaObjectSerializer())
    server = oslo_messaging.get_rpc_server(
        rpc.TRANSPORT, oslo_messaging.Target(**target), [Compute()], executor="threading", serializer=serializer
    )
    server.start()
    instance = objects.Instance(context=context, uuid=uuidutils.generate_uuid(), display_name="größer")
    return instance.obj_to_primitive()


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
                work = serve(context, command["serve"]) if "serve" in command else select(context, command)
                answer = {"returned": work}
            except Exception as error:
                answer = {"raised": raised(error)}
        print(json.dumps(answer, sort_keys=True), flush=True)


main()
