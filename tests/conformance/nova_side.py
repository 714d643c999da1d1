"""Nova's own scheduler on the hosts of a document, without a database, a service or a broker.

Nothing of Nova is rewritten: filters and weighers are found and run by its HostManager, and picks are made by the loop of
its SchedulerManager. What is replaced is what would ask a database or Placement: the caches read at start, the claim of a
candidate (always granted), the cell and the system metadata behind an instance's image properties, and the clock. One
order is fixed that Nova leaves to a hash: the values that one key has in several aggregates are tried numbers first, so
that one document has one answer.
"""

import contextlib
import datetime
import logging
from unittest import mock

import nova.conf
import oslo_messaging
from nova import context as nova_context
from nova import exception
from nova import objects
from nova.scheduler import filters
from nova.scheduler import host_manager
from nova.scheduler import manager
from nova.scheduler import weights
from nova.scheduler.filters import aggregate_instance_extra_specs
from nova.scheduler.filters import utils as filter_utils
from oslo_utils import timeutils

import documents
import nova_objects
import placement_fleets
import placement_side

CONF = nova.conf.CONF
NOW = datetime.datetime(2026, 1, 1)

# Names of options that are not in [filter_scheduler]: (group, name).
ELSEWHERE = {
    "metrics_weight_multiplier": ("metrics", "weight_multiplier"),
    "metrics_weight_setting": ("metrics", "weight_setting"),
    "metrics_required": ("metrics", "required"),
    "metrics_weight_of_unavailable": ("metrics", "weight_of_unavailable"),
    "max_attempts": ("scheduler", "max_attempts"),
    **{name: ("scheduler", name) for name in placement_fleets.OPTIONS},
    placement_fleets.NO_FALLBACK: ("workarounds", placement_fleets.NO_FALLBACK),
    "packing_host_numa_cells_allocation_strategy": ("compute", "packing_host_numa_cells_allocation_strategy"),
    "service_down_time": (None, "service_down_time"),
}


class Manager(host_manager.HostManager):
    """Nova's, with empty caches: hosts are given with all that belongs to them."""

    def refresh_cells_caches(self):
        self.cells = {}
        self.enabled_cells = [placement_side.CELL]

    def _get_cell_by_host(self, ctxt, host):
        return placement_side.CELL

    def _init_aggregates(self):
        pass

    def _init_instance_info(self, computes_by_cell=None):
        pass


class Scheduler(manager.SchedulerManager):
    """Nova's loop over the hosts of one request. It notes which were chosen, also when the request fails in the end."""

    placement_client = None

    def __init__(self, hosts, states):
        # Nova's constructor would start a service, and is left out.
        self.host_manager = hosts
        self.states = states
        self.chosen = []

    def _get_all_host_states(self, context, spec_obj, provider_summaries):
        return iter(self.states)

    def _cleanup_allocations(self, context, instance_uuids):
        pass

    def _consume_selected_host(self, selected_host, spec_obj, instance_uuid=None):
        self.chosen.append(selected_host)
        manager.SchedulerManager._consume_selected_host(selected_host, spec_obj, instance_uuid)


class StagedScheduler(Scheduler):
    """All of it, with Placement asked before and claims made of it. It notes who was left when the filters would begin."""

    def __init__(self, hosts, states, client):
        super().__init__(hosts, states)
        self.placement_client = client
        self.notifier = mock.Mock()
        self.left = []

    def _select_destinations(self, context, spec_obj, instance_uuids, alloc_reqs_by_rp_uuid, *rest):
        left = self.states
        if alloc_reqs_by_rp_uuid is not None:  # else nobody was asked, so all are left
            left = [state for state in left if state.uuid in alloc_reqs_by_rp_uuid]
        self.states = left
        self.left = list(self.host_manager.get_filtered_hosts(left, spec_obj, 0))
        return self._schedule(context, spec_obj, instance_uuids, alloc_reqs_by_rp_uuid, *rest)


def _claimer(claim_resources):
    """Nova's own; but a candidate that Placement has not told is always granted."""
    return lambda context, client, *claim, **how: client is None or claim_resources(context, client, *claim, **how)


def _values_numbers_first(host_state, key=None):
    """Nova's helper, with each set of values in a fixed order."""

    def order(value):
        try:
            float(value)
        except ValueError:
            return (True, value)
        return (False, value)

    found = filter_utils.aggregate_metadata_get_by_host(host_state, key)
    return {name: sorted(values, key=order) for name, values in found.items()}


def _fill_metadata(instances):
    """What a database would say of an instance that was chosen a moment ago: it has no system metadata."""
    for instance in instances:
        if "system_metadata" not in instance:
            instance.system_metadata = {}
            instance.image_ref = ""


@contextlib.contextmanager
def _target_cell(context, _mapping):
    yield context


def start():
    """Once per process."""
    logging.disable(logging.CRITICAL)
    objects.register_all()
    CONF([], project="nova", default_config_files=[], default_config_dirs=[])
    timeutils.set_time_override(NOW)
    ordered = mock.Mock(wraps=filter_utils, aggregate_metadata_get_by_host=_values_numbers_first)
    for target, name, replacement in (
        (objects.CellMapping, "get_by_uuid", lambda context, uuid: uuid),
        (objects.InstanceList, "fill_metadata", _fill_metadata),
        (nova_context, "target_cell", _target_cell),
        (manager.utils, "claim_resources", _claimer(manager.utils.claim_resources)),
        (aggregate_instance_extra_specs, "utils", ordered),
    ):
        setattr(target, name, replacement)


WEIGHERS = {cls.__name__: f"{cls.__module__}.{cls.__name__}" for cls in weights.HostWeightHandler().get_all_classes()}
FILTERS = sorted(cls.__name__ for cls in filters.all_filters())


def configure(options):
    """A HostManager with the options of a document in force; what they do not name has Nova's default."""
    CONF.reset()
    CONF.clear_override("service_down_time")
    for group in ("filter_scheduler", "metrics", "scheduler"):
        for name in CONF[group]:
            CONF.clear_override(name, group)
    CONF.clear_override(placement_fleets.NO_FALLBACK, "workarounds")
    CONF.clear_override("packing_host_numa_cells_allocation_strategy", "compute")
    filters = [] if documents.before_filters(options) else options["filters"]
    CONF.set_override("enabled_filters", filters, "filter_scheduler")
    CONF.set_override("weight_classes", [WEIGHERS[name] for name in options["weighers"]], "filter_scheduler")
    CONF.set_override("track_instance_changes", False, "filter_scheduler")
    for option, value in documents.config(options).items():
        group, name = ELSEWHERE.get(option, ("filter_scheduler", option))
        CONF.set_override(name, value, group)
    return Manager()


def _raiser(error):
    """The name of the filter or weigher that an exception came out of."""
    trace = error.__traceback__
    found = None
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        if isinstance(owner, (filters.BaseHostFilter, weights.BaseHostWeigher)):
            found = type(owner).__name__
        trace = trace.tb_next
    if found is None:
        raise error
    return found


class Nova:
    """Answers documents."""

    def __init__(self):
        start()
        self.context = nova_context.RequestContext("conformance", "conformance", is_admin=True)
        self.stage = None

    def decide(self, document):
        """The `results` of a document, in the shape of the recorded ones, plus errors and alternates; or, of one about the
        stage before the filters, the hosts that are left then."""
        hosts = configure(document["options"])
        fleet = nova_objects.Fleet(document, NOW)
        ask = self._request
        if documents.before_filters(document["options"]):
            self.stage = self.stage or placement_side.Stage()
            self.stage.hold(fleet)
            ask = self._staged
        return [ask(hosts, fleet, at, request) for at, request in enumerate(document["requests"])]

    def _staged(self, hosts, fleet, at, request):
        """All of select_destinations, without filters: who is left, and who is picked, each with its claim."""
        result = {"id": request.get("id", at)}
        try:
            spec = nova_objects.request_spec(self.context, request)
            states = fleet.states()
            scheduler = StagedScheduler(hosts, states, self.stage.client)
            self.stage.placement.asked = []
            try:
                scheduler.select_destinations(self.context, spec_obj=spec, instance_uuids=request["instance_uuids"])
                result["complete"] = True
            except oslo_messaging.ExpectedException as expected:
                error = expected.exc_info[1]
                if not isinstance(error, exception.NoValidHost):
                    raise error
                result.update(complete=False, reason=str(error))
            result["candidates"] = [state.at for state in states if state in scheduler.left]
            result["picks"] = [state.at for state in scheduler.chosen]
            return {**result, "asked": self.stage.placement.asked}
        except Exception as error:  # whatever Nova raises is the answer
            return {**result, "refused": repr(error)}
        finally:
            self.stage.placement.give_back(request["instance_uuids"])

    def _request(self, hosts, fleet, at, request):
        result = {"id": request.get("id", at)}
        try:
            nova_objects.request_spec(self.context, request)
        except Exception as error:  # whatever Nova raises is the answer
            return {**result, "refused": repr(error)}
        result.update(self._verdicts(hosts, fleet.states(), request))
        result.update(self._picks(hosts, fleet.states(), request))
        return result

    @staticmethod
    def _candidates(states):
        """Placement says yes to every host, once."""
        return {state.uuid: [{"allocations": {state.uuid: {}}, "mappings": {}}] for state in states}

    def _verdicts(self, hosts, states, request):
        """One filter after the other, host by host, so that one host's error does not end the others' turn."""
        spec = nova_objects.request_spec(self.context, request)
        candidates = self._candidates(states)
        for state in states:
            state.allocation_candidates = candidates[state.uuid]
        verdict = ["-"] * len(states)
        errors = []
        chain, hosts.enabled_filters = hosts.enabled_filters, []
        try:
            left = list(hosts.get_filtered_hosts(states, spec, 0))
        finally:
            hosts.enabled_filters = chain
        for state in left:
            verdict[state.at] = "."
        forced = (spec.force_hosts or spec.force_nodes) and not spec.scheduler_hints.get("_nova_check_type")
        for letter, filter_ in enumerate([] if forced else chain):
            passed = []
            for state in left:
                try:
                    if filter_._filter_one(state, spec):
                        passed.append(state)
                    else:
                        verdict[state.at] = chr(ord("a") + letter)
                except Exception as error:  # whatever Nova raises is the answer
                    verdict[state.at] = "!"
                    errors.append({"filter": type(filter_).__name__, "host": state.at, "reason": repr(error)})
            left = passed
        result = {"verdict": "".join(verdict), "errors": errors}
        try:
            weighed = hosts.get_weighed_hosts(left, spec)
            result["weights"] = [[host.obj.at, host.weight] for host in weighed]
        except Exception as error:  # whatever Nova raises is the answer
            result["weights"] = None
            errors.append({"weigher": _raiser(error), "reason": repr(error)})
        return result

    def _picks(self, hosts, states, request):
        """The loop of select_destinations, from the hosts on."""
        spec = nova_objects.request_spec(self.context, request)
        scheduler = Scheduler(hosts, states)
        uuids = list(request["instance_uuids"])
        candidates = None if manager.utils.request_is_rebuild(spec) else self._candidates(states)
        result = {"complete": False}
        try:
            selections = scheduler._schedule(self.context, spec, uuids, candidates, None, return_alternates=True)
            result["complete"] = True
            place = {(state.host, state.nodename): state.at for state in states}
            result["alternates"] = [
                [place[(other.service_host, other.nodename)] for other in selection[1:]] for selection in selections
            ]
        except exception.NoValidHost:
            pass
        except Exception as error:  # whatever Nova raises is the answer
            result["failed"] = {"in": _raiser(error), "reason": repr(error)}
        result["picks"] = [state.at for state in scheduler.chosen]
        return result
