"""The stage before Nova's filters, by Nova's own code and the real Placement service, in this process.

Nova's SchedulerManager runs its prefilters on a request, makes the query of it and asks its report client, which asks
Placement's WSGI application. Both read databases of their own, SQLite in memory, that hold a document: Placement's the
providers with inventories, traits, aggregates and what is used of them; Nova's the aggregates with their metadata. Replaced
is the way between the two services, and what would ask a cell's database: which node a host has, and how old services are.
"""

import json
import logging

import webob
from nova import exception
from nova import objects
from nova.db.api import api as nova_database
from nova.db.api import models as nova_models
from nova.scheduler import request_filter
from nova.scheduler.client import report
from oslo_config import cfg
from placement import conf as placement_conf
from placement import db_api as placement_database
from placement import deploy
from placement.db.sqlalchemy import migration
from placement.db.sqlalchemy import models

import nova_objects

CELL = objects.CellMapping(uuid=nova_objects.cell_uuid("cell1"), name="cell1")
OWNER = "OWNER_NOVA"  # what every compute service of Nova 34 says of its node


class Response:
    """What the report client reads of an answer."""

    def __init__(self, response):
        self.status_code, self.text, self.headers = response.status_int, response.text, response.headers

    def json(self):
        return json.loads(self.text)


class Placement:
    """The service, and the adapter that Nova's report client asks it by."""

    def __init__(self):
        conf = cfg.ConfigOpts()
        placement_conf.register_opts(conf)
        conf.set_override("connection", "sqlite://", "placement_database")
        conf.set_override("auth_strategy", "noauth2", "api")
        conf([], project="placement", default_config_files=[], default_config_dirs=[])
        placement_database.configure(conf)
        self.engine = placement_database.get_placement_engine()
        migration.create_schema(self.engine)
        self.application = deploy.loadapp(conf)
        self.additional_headers = {}  # the report client's
        self.asked = []
        logging.disable(logging.CRITICAL)

    def get(self, url, microversion, global_request_id):
        request = webob.Request.blank(url, headers=self._headers(microversion))
        response = self._respond(request)
        if request.path == "/allocation_candidates":
            self.asked.append((sorted(request.GET), response.status_code))
        return response

    def put(self, url, json, microversion, global_request_id):
        headers = self._headers(microversion)
        request = webob.Request.blank(url, method="PUT", headers=headers, json=json, content_type="application/json")
        return self._respond(request)

    def _headers(self, microversion):
        asked = {"X-Auth-Token": "admin", "OpenStack-API-Version": f"placement {microversion}"}
        return {**asked, **self.additional_headers}

    def _respond(self, request):
        response = request.get_response(self.application)
        if response.status_int >= 500:
            raise RuntimeError(f"Placement failed: {response.text}")
        return Response(response)

    def give_back(self, instances):
        """What these have claimed."""
        allocations, consumers = models.Allocation.__table__, models.Consumer.__table__
        with self.engine.begin() as connection:
            connection.execute(allocations.delete().where(allocations.c.consumer_id.in_(instances)))
            connection.execute(consumers.delete().where(consumers.c.uuid.in_(instances)))

    def hold(self, fleet):
        """Holds these providers and no others, as computes and their claims would have made them."""
        with self.engine.begin() as connection:
            for table in (
                models.Allocation,
                models.Inventory,
                models.ResourceProviderTrait,
                models.ResourceProviderAggregate,
                models.PlacementAggregate,
                models.ResourceProvider,
            ):
                connection.execute(table.__table__.delete())
            rows = {}
            add = lambda table, **row: rows.setdefault(table, []).append(row)
            for aggregate in fleet.known.values():
                add(models.PlacementAggregate, id=aggregate.id, uuid=aggregate.uuid)
            traits = self._ids(connection, models.Trait, {name for host in fleet.hosts for name in host["traits"]})
            classes = {name for host in fleet.hosts for name in host["resources"]}
            classes = self._ids(connection, models.ResourceClass, classes)
            for at, host in enumerate(fleet.hosts):
                provider, uuid = at + 1, nova_objects.node_uuid(at)
                name = host["node"] or host["host"]
                add(models.ResourceProvider, id=provider, root_provider_id=provider, uuid=uuid, name=name, generation=0)
                for trait in {*host["traits"], OWNER}:
                    add(models.ResourceProviderTrait, resource_provider_id=provider, trait_id=traits[trait])
                for aggregate in host["aggregates"]:
                    add(models.ResourceProviderAggregate, resource_provider_id=provider, aggregate_id=aggregate)
                for name, inventory in nova_objects.inventories(host).items():
                    used = inventory.pop("used")
                    of = {"resource_provider_id": provider, "resource_class_id": classes[name]}
                    add(models.Inventory, **of, **inventory)
                    if used:
                        add(models.Allocation, **of, consumer_id=uuid, used=used)
            for table, some in rows.items():
                connection.execute(table.__table__.insert(), some)

    @staticmethod
    def _ids(connection, table, names):
        """By name, of all that the service knows, these among them."""
        table = table.__table__
        known = dict(connection.execute(table.select().with_only_columns(table.c.name, table.c.id)).all())
        for name in sorted(names - known.keys()):
            known[name] = connection.execute(table.insert(), {"name": name}).inserted_primary_key[0]
        return known


class Aggregates:
    """Nova's database, as far as its prefilters read it."""

    def __init__(self):
        nova_database.CONF.set_override("connection", "sqlite://", "api_database")
        nova_database.configure(nova_database.CONF)
        self.engine = nova_database.get_engine()
        self.tables = [
            table.__table__
            for table in (nova_models.AggregateHost, nova_models.AggregateMetadata, nova_models.Aggregate)
        ]
        nova_models.BASE.metadata.create_all(self.engine, tables=self.tables)

    def hold(self, fleet):
        hosts, metadata, aggregates = self.tables
        with self.engine.begin() as connection:
            for table in self.tables:
                connection.execute(table.delete())
            for aggregate in fleet.known.values():
                told = {"id": aggregate.id, "uuid": aggregate.uuid, "name": aggregate.name}
                connection.execute(aggregates.insert(), told)
                for key, value in aggregate.metadata.items():
                    connection.execute(metadata.insert(), {"aggregate_id": aggregate.id, "key": key, "value": value})


class Stage:
    """A document's fleet as Placement and Nova's prefilters see it."""

    def __init__(self):
        self.placement, self.aggregates = Placement(), Aggregates()
        self.client = report.SchedulerReportClient(self.placement)
        self.computes = []
        for target, name, replacement in (
            (objects.ComputeNode, "get_by_host_and_nodename", self._by_host_and_node),
            (objects.ComputeNode, "get_by_nodename", self._by_node),
            (objects.ComputeNodeList, "get_all_by_host", self._by_host),
            (request_filter, "_should_filter_by_owner", lambda context: True),
        ):
            setattr(target, name, replacement)

    def _computes(self, **wanted):
        found = [node for node in self.computes if all(getattr(node, field) == value for field, value in wanted.items())]
        if not found:
            raise exception.NotFound()
        return found

    def _by_host_and_node(self, context, host, node):
        return self._computes(host=host, hypervisor_hostname=node)[0]

    def _by_node(self, context, node):
        return self._computes(hypervisor_hostname=node)[0]

    def _by_host(self, context, host):
        return objects.ComputeNodeList(objects=self._computes(host=host))

    def hold(self, fleet):
        self.placement.hold(fleet)
        self.aggregates.hold(fleet)
        self.computes = fleet.computes
