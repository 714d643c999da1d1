#!/usr/bin/env python3
"""Random documents, answered by Nova and by novella, compared: verdict of each filter on each host, errors, weights, order
and picks; or which hosts are left before the filters, by Nova's prefilters and Placement.

    run.py --cases 2000 [--seed S] [--seconds T]     one case is one request for one fleet
    run.py --replay FILE                             a document of before, to look at both answers
    run.py --replay FILE --remember WHAT             and to be asked first in every run from now on, here and in the
                                                     tests of fleet-documents (found.json)
    run.py --self-test                               whether a difference would be noticed: novella is asked something else;
                                                     and whether Nova says here what it said when it was recorded

Runs in a virtual environment with Nova; scripts/conformance.sh makes one. NOVELLA is the executable to compare. A
disagreement is printed with its seed and number, and as small a document as still shows it.
"""

import argparse
import collections
import concurrent.futures
import copy
import gzip
import itertools
import json
import os
import pathlib
import re
import sys
import time
import warnings

warnings.filterwarnings("ignore")  # Nova's libraries warn of one another

import compare
import documents
import placement_fleets
import shrink

ORACLE = pathlib.Path(__file__).resolve().parents[2] / "crates/fleet-documents/tests/oracle"
FOUND = pathlib.Path(__file__).with_name("found.json")
CHUNK = 20  # documents that a worker takes at a time
SUFFIXED = re.compile("(resources|required).+")  # in a query to Placement
ENOUGH = 500  # disagreements: what is broken is known by then
BINARY = os.environ.get("NOVELLA", "novella")
sides = {}


def both_sides():
    """This process's two schedulers, started at first use: Nova takes a second to load."""
    if not sides:
        import nova_side
        import novella_side

        sides.update(nova=nova_side.Nova(), ours=novella_side.Novella(BINARY))
    return sides["nova"], sides["ours"]


def answers(document, distort=lambda document: document):
    nova, ours = both_sides()
    return nova.decide(document), ours.decide(distort(document))


def single(document, at):
    """The document with one of its requests only."""
    return {**document, "requests": [document["requests"][at]]}


def disagreement(document, kind, distort):
    """Whether a document of one request still shows a difference of this kind."""
    filters = document["options"]["filters"]
    if documents.before_filters(document["options"]) and filters != placement_fleets.FILTERS:
        return False
    try:
        nova, ours = answers(document, distort)
        return any(found == kind for found, _ in compare.differences(filters, nova[0], ours[0]))
    except Exception:  # a document that one side cannot read shows nothing
        return False


def tally(document, result, counts):
    """What was covered: how often each filter said what, and how requests ended."""
    if "refused" in result:
        counts["request refused"] += 1
        return
    if "candidates" in result:
        counts["before the filters"] += 1
        left = len(result["candidates"])
        for words, _ in result["asked"]:
            for word in {SUFFIXED.sub(r"\1 with a suffix", word) for word in words}:
                counts[f"asked of Placement: {word}", "left"] += left
                counts[f"asked of Placement: {word}", "left out"] += len(document["hosts"]) - left
        return
    filters = document["options"]["filters"]
    for verdict in result["verdict"]:
        if verdict not in ".-!":
            counts[filters[ord(verdict) - ord("a")], "refused"] += 1
    if "." in result["verdict"]:
        for name in filters:
            counts[name, "passed"] += result["verdict"].count(".")
        for name in document["options"]["weighers"]:
            counts[name, "weighed"] += 1
    for error in result["errors"]:
        counts[error.get("filter") or error.get("weigher"), "raised"] += 1
    counts["complete" if result["complete"] else "failed" if "failed" in result else "no valid host"] += 1
    counts["host verdicts"] += len(result["verdict"])
    counts["weights"] += len(result["weights"] or [])
    counts["picks"] += len(result["picks"])


def examine(seed, first, last, distort=lambda document: document, known=()):
    """Documents `first` to `last`: cases, coverage, and one disagreement of each kind that is not known yet."""
    counts, cases, shown = collections.Counter(), 0, {}
    for number in range(first, last):
        document = documents.generate(seed, number)
        theirs, mine = answers(document, distort)
        for at, (nova, ours) in enumerate(zip(theirs, mine, strict=True)):
            cases += 1
            tally(document, nova, counts)
            for kind, text in compare.differences(document["options"]["filters"], nova, ours):
                counts["disagreements"] += 1
                if kind in shown or kind in known:
                    continue
                smallest = shrink.shrink(single(document, at), lambda smaller: disagreement(smaller, kind, distort))
                shown[kind] = {"at": (seed, number, at), "difference": text, "document": smallest}
    return cases, counts, shown


def report(found):
    print("\nDISAGREEMENT: seed {}, document {}, request {}".format(*found["at"]))
    print(f"  {found['difference']}")
    print("  smallest document that shows it (save it, then run.py --replay FILE):")
    print(json.dumps(found["document"], ensure_ascii=False))
    for name, result in zip(("Nova", "novella"), answers(found["document"])):
        print(f"  {name}: {json.dumps(result, ensure_ascii=False)}", flush=True)


def coverage(counts):
    """One line per filter and weigher."""
    names = sorted({key[0] for key in counts if isinstance(key, tuple)})
    for name in names:
        words = [
            f"{what} {counts[name, what]:,}"
            for what in ("passed", "refused", "raised", "weighed", "left", "left out")
            if counts[name, what]
        ]
        print(f"  {name:<40} {', '.join(words)}")
    rest = sorted((key, value) for key, value in counts.items() if isinstance(key, str))
    print("  " + ", ".join(f"{key}: {value:,}" for key, value in rest))


def run(seed, cases, seconds, workers):
    """Whether all agreed. This process asks nobody itself: workers must not share a novella."""
    began, done, counts, found = time.monotonic(), 0, collections.Counter(), {}
    total = -(-cases // documents.REQUESTS_PER_DOCUMENT)
    chunks = iter([(at, min(at + CHUNK, total)) for at in range(0, total, CHUNK)])
    said = began
    with concurrent.futures.ProcessPoolExecutor(workers) as pool:
        before = pool.submit(found_before)
        waiting = {pool.submit(examine, seed, *chunk) for chunk in itertools.islice(chunks, 2 * workers)}
        while waiting:
            finished, waiting = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
            for job in finished:
                more, covered, shown = job.result()
                done, counts, found = done + more, counts + covered, {**shown, **found}
                over = seconds and time.monotonic() - began > seconds or counts["disagreements"] > ENOUGH
                if not over and (chunk := next(chunks, None)):
                    waiting.add(pool.submit(examine, seed, *chunk, known=tuple(found)))
            if time.monotonic() - said > 10:
                said = time.monotonic()
                print(f"{done:,} of {cases:,} cases, {said - began:.0f} s", file=sys.stderr)
        agreed_before = before.result()
    took = time.monotonic() - began
    coverage(counts)
    print(
        f"conformance with Nova 34: {done:,} of {cases:,} cases in {took:.0f} s, seed {seed}, {counts['disagreements']:,} disagreements"
    )
    with concurrent.futures.ProcessPoolExecutor(1) as pool:
        for difference in found.values():
            pool.submit(report, difference).result()
    return agreed_before and not found


def replay(path, remember):
    """Whether both agree about a document of before."""
    document = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    theirs, mine = answers(document)
    agreed = True
    for nova, ours in zip(theirs, mine, strict=True):
        print("Nova:   ", json.dumps(nova, ensure_ascii=False))
        print("novella:", json.dumps(ours, ensure_ascii=False))
        for _, text in compare.differences(document["options"]["filters"], nova, ours):
            print("differs:", text)
            agreed = False
    if remember:
        entries = [
            *json.loads(FOUND.read_text(encoding="utf-8")),
            {"what": remember, "document": document, "nova": theirs},
        ]
        lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
        FOUND.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    return agreed


def found_before():
    """Whether both say what Nova said when each of these was found."""
    agreed, entries = True, json.loads(FOUND.read_text(encoding="utf-8"))
    for entry in entries:
        document, recorded = entry["document"], entry["nova"]
        theirs, mine = answers(document)
        same = json.loads(json.dumps(theirs)) == recorded
        if not same or any(
            compare.differences(document["options"]["filters"], nova, ours)
            for nova, ours in zip(theirs, mine, strict=True)
        ):
            agreed = False
            print(f"DISAGREEMENT, found before: {entry['what']}\n{json.dumps(document, ensure_ascii=False)}")
    print(f"{len(entries)} documents that were found before: {'agreed' if agreed else 'NOT agreed'}", flush=True)
    return agreed


def recorded():
    """Whether Nova, as it is asked here, decides as it did in the recording that fleet-documents's tests have."""
    nova, _ = both_sides()
    fleet, asked, said = (
        json.loads(gzip.decompress((ORACLE / f"{name}_100.json.gz").read_bytes()))
        for name in ("fleet", "requests", "nova")
    )
    results = {result["id"]: result for result in said["results"]}
    for name, filters in asked["filter_sets"].items():
        options = {"filters": filters, "weighers": said["weighers"], **said["config"]}
        requests = [request for request in asked["requests"] if request["filters"] == name]
        for result in nova.decide({**fleet, "requests": requests, "options": options}):
            if any(result[field] != value for field, value in results[result["id"]].items()):
                print(f"request {result['id']} of the recording: {json.dumps(result)}")
                return False
    return True


def flipped_host(document):
    """Every host's service is what it is not."""
    changed = copy.deepcopy(document)
    for host in changed["hosts"]:
        host["disabled"] = not host.get("disabled", False)
    return changed


def other_multiplier(document):
    """One option is another."""
    changed = copy.deepcopy(document)
    if "RAMWeigher" in changed["options"]["weighers"]:
        changed["options"]["ram_weight_multiplier"] = 0.37
    return changed


def other_limit(document):
    changed = copy.deepcopy(document)
    changed["options"]["max_instances_per_host"] = 3
    return changed


def other_attempts(document):
    """As many alternates as Nova was not asked for."""
    changed = copy.deepcopy(document)
    changed["options"]["max_attempts"] = 3 if document["options"].get("max_attempts", 3) < 3 else 1
    return changed


def no_traits(document):
    return {**document, "hosts": [{**host, "traits": []} for host in document["hosts"]]}


def fuller_hosts(document):
    changed = copy.deepcopy(document)
    for host in changed["hosts"]:
        host["vcpus_used"] += 1000
        for inventory in host.get("resources", {}).values():
            inventory["used"] = inventory.get("used", 0) + 1000
    return changed


def self_test(seed):
    """Whether each of these changes to what novella is asked is noticed soon, and shown in a small document."""
    noticed = recorded()
    print(f"{'ok' if noticed else 'FAILED'}: Nova says what it said when it was recorded")
    for distort in (flipped_host, other_multiplier, other_limit, other_attempts, no_traits, fuller_hosts):
        cases, counts, shown = examine(seed, 0, 40, distort)
        sizes = [len(json.dumps(found["document"])) for found in shown.values()]
        good = bool(shown) and min(sizes) < 1500
        noticed &= good
        what = f"{counts['disagreements']} disagreements in {cases} cases, shown in {min(sizes, default=0)} bytes"
        print(f"{'ok' if good else 'FAILED'}: {distort.__name__}: {what}")
    return noticed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=0, help="stop after this many; 0: when all cases are done")
    parser.add_argument("--seed", type=int, default=34)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--replay", metavar="FILE")
    parser.add_argument("--remember", metavar="WHAT")
    parser.add_argument("--self-test", action="store_true")
    asked = parser.parse_args()
    if asked.replay:
        good = replay(asked.replay, asked.remember)
    elif asked.self_test:
        good = self_test(asked.seed)
    else:
        good = run(asked.seed, asked.cases, asked.seconds, asked.workers)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
