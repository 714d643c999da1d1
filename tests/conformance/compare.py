"""Where Nova's result for a request and ours differ.

A difference is (kind, text). Kinds are stable, so that a smaller document can be asked whether it still shows the same.
"""

TOLERANCE = 1e-9


def _filter_of(verdict, filters):
    names = {".": "passed", "-": "not considered", "!": "error"}
    return names.get(verdict) or filters[ord(verdict) - ord("a")]


def _told(errors):
    """Filter errors by filter and host, in order; and the first weigher that raised: Nova does not go on to others."""
    of_filters = [(error["filter"], error["host"]) for error in errors if "filter" in error]
    of_weighers = [error["weigher"] for error in errors if "weigher" in error]
    return of_filters, of_weighers[0] if of_weighers else None


def _refused(result):
    """Why a request could not even be read, if so."""
    reasons = [error["reason"] for error in result.get("errors", []) if error.get("kind") in ("image", "request")]
    return result.get("refused") or (reasons[0] if reasons else None)


def _candidates(nova, ours):
    """The stage before the filters: who is left, and who takes each instance then. A query for no resources, which
    Placement refuses and here fits anywhere, tells nothing."""
    if not all(any(word.startswith("resources") for word in words) for words, _ in nova["asked"]):
        return []
    mine = {host for host, verdict in enumerate(ours["verdict"]) if verdict == "."}
    theirs = set(nova["candidates"])
    told = [status for _, status in nova["asked"]]  # by Placement: a refusal is another matter than no candidates
    kinds = {f"left in Nova only {told}": theirs - mine, f"left in novella only {told}": mine - theirs}
    found = [(kind, f"hosts {sorted(hosts)}: {kind}") for kind, hosts in kinds.items() if hosts]
    if not found and (nova["complete"], nova["picks"]) != (ours["complete"], ours["picks"]):
        found.append(("claims", f"Nova: {nova['picks']}; novella: {ours['picks']}"))
    return found


def differences(filters, nova, ours):
    """All that differ for one request that is judged by `filters`."""
    refused = _refused(nova), _refused(ours)
    if any(refused):
        if all(refused):
            return []
        error = (refused[0] or "").partition("(")[0]
        return [(f"refused {error}", f"Nova: {refused[0] or 'understood'}; novella: {refused[1] or 'understood'}")]
    if "candidates" in nova:
        return _candidates(nova, ours)
    found = []
    for host, (theirs, mine) in enumerate(zip(nova["verdict"], ours["verdict"], strict=True)):
        if theirs != mine:
            theirs, mine = _filter_of(theirs, filters), _filter_of(mine, filters)
            reasons = [
                error["reason"] for error in nova["errors"] + ours.get("errors", []) if error.get("host") == host
            ]
            found.append(
                (f"verdict {theirs} / {mine}", f"host {host}: Nova: {theirs}; novella: {mine} {reasons or ''}")
            )
    if found:
        return found
    theirs, mine = _told(nova["errors"]), _told(ours.get("errors", []))
    if theirs != mine:
        found.append(("errors", f"Nova: {theirs}; novella: {mine}"))
    if not nova["errors"]:  # else the request is over, there and here
        order = [[host for host, _ in result["weights"]] for result in (nova, ours)]
        mine = dict(map(tuple, ours["weights"]))
        for host, weight in nova["weights"]:
            other = mine.get(host)
            if other is None or not abs(other - weight) <= TOLERANCE * max(1.0, abs(weight)):
                found.append(("weight", f"host {host}: Nova: {weight!r}; novella: {other!r}"))
        if not found and order[0] != order[1]:
            found.append(("order", f"Nova: {order[0]}; novella: {order[1]}"))
    if nova["complete"] != ours["complete"]:
        told = nova.get("failed", "")
        found.append(
            ("complete", f"Nova: {nova['complete']} {told}; novella: {ours['complete']} {ours.get('errors', '')}")
        )
    elif "failed" not in nova and nova["picks"] != ours["picks"]:
        found.append(("picks", f"Nova: {nova['picks']}; novella: {ours['picks']}"))
    elif nova["complete"] and "alternates" in ours and nova["alternates"] != ours["alternates"]:
        found.append(("alternates", f"Nova: {nova['alternates']}; novella: {ours['alternates']}"))
    return found
