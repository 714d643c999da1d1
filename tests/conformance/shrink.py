"""Makes a document smaller for as long as it still shows what it showed: whole things first, then their parts."""

import copy

KEPT = {
    "schema",
    "host",
    "hypervisor_version",
    "id",
    "instance_uuids",
    "filters",
    "weighers",
    "policy",
    "placement",
    "project_id",
    "members",
    "hosts",
    "uuid",
    "name",
}


def _paths(value, path=()):
    """Every part of a document that can be left out, larger ones first."""
    found = []
    if isinstance(value, dict):
        for key in value:
            if not path and key != "options":
                found += _paths(value[key], (*path, key))
                continue
            if key not in KEPT and path:
                found.append((*path, key))
            found += _paths(value[key], (*path, key))
    elif isinstance(value, list):
        last = len(value) - 1
        for at in range(last, -1, -1):  # from behind, so that places before stay what they are
            if not (last == 0 and path and path[-1] in ("requests", "instance_uuids")):
                found.append((*path, at))
            found += _paths(value[at], (*path, at))
    return sorted(found, key=len)


def _without(document, path):
    smaller = copy.deepcopy(document)
    holder = smaller
    for step in path[:-1]:
        holder = holder[step]
    del holder[path[-1]]
    return smaller


def shrink(document, still_shows, budget=4000):
    """The smallest document that is reached by leaving out one part after the other."""
    again = True
    while again and budget > 0:
        again = False
        for path in _paths(document):
            try:
                smaller = _without(document, path)
            except (KeyError, IndexError, TypeError):
                continue  # went with a larger part
            budget -= 1
            if budget <= 0:
                break
            if still_shows(smaller):
                document, again = smaller, True
    return document
