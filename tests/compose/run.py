"""The shipped image and compose file, unchanged, on a real engine: three hosts come up, one takes an instance, eight
come up after scaling, and the broker knows the three users and no guest.

Run by scripts/run_tests.py, which provides the engine and the base images. NOVELLA_COMPOSE names the compose to use.
"""

import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROJECT = f"novella-test-{os.getpid()}"
COMPOSE = [*shlex.split(os.environ.get("NOVELLA_COMPOSE", "docker compose")), "--project-name", PROJECT]
BUILD_LIMIT = 1200
STEP_LIMIT = 180


class Failed(Exception):
    """A step did not end as it should."""


def run(command, limit=STEP_LIMIT, expect=0):
    """Standard output of `command`, which must end with exit code `expect` in time."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False)
    if done.returncode != expect:
        words = shlex.join(command)
        raise Failed(f"{words}: exit code {done.returncode}, not {expect}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def compose(*words, **options):
    return run([*COMPOSE, *words], **options)


def containers(service):
    return compose("ps", "-q", service).split()


def docker(*words, **options):
    return run(["docker", *words], **options)


def wait_for(what, probe):
    """Polls `probe` until it gives something; what it last raised is the reason if it never does."""
    until = time.monotonic() + STEP_LIMIT
    reason = "not yet"
    while time.monotonic() < until:
        try:
            if found := probe():
                return found
        except (Failed, json.JSONDecodeError) as error:
            reason = str(error)
        time.sleep(1)
    raise Failed(f"no {what} within {STEP_LIMIT} s: {reason}")


def hosts_up():
    listed = json.loads(compose("exec", "-T", "scheduler", "novella", "host", "list", "-f", "json"))
    return sorted(host["host"] for host in listed if host["state"] == "up")


def healthy(service):
    states = docker("inspect", "--format", "{{.State.Health.Status}}", *containers(service)).split()
    return bool(states) and all(state == "healthy" for state in states)


def names_of_agents():
    return sorted(docker("inspect", "--format", "{{.Config.Hostname}}", *containers("compute-agent")).split())


def three_hosts():
    compose("up", "--detach", limit=STEP_LIMIT * 2)
    for service in ("rabbitmq", "scheduler", "compute-agent"):
        wait_for(f"healthy {service}", lambda service=service: healthy(service))
    assert len(names_of_agents()) == 3, names_of_agents()
    wait_for("three hosts up", lambda: hosts_up() == names_of_agents())


def nobody_is_root():
    for service in ("scheduler", "compute-agent"):
        assert compose("exec", "-T", service, "id", "-u").strip() != "0", f"{service} runs as root"


def three_users_and_no_guest():
    listed = json.loads(compose("exec", "-T", "rabbitmq", "rabbitmqctl", "--quiet", "--formatter", "json", "list_users"))
    assert sorted(user["user"] for user in listed) == ["agent", "operator", "scheduler"], listed


def an_instance_finds_its_host():
    operator = ("run", "--rm", "-T", "novella")
    answer = json.loads(compose(*operator, "place", "--vcpus", "1", "--ram", "64M", "--disk", "1G", "-f", "json"))
    assert [selection["host"] for selection in answer["selections"]][0] in names_of_agents(), answer
    huge = ("place", "--vcpus", "60000", "--ram", "64M", "--disk", "1G", "-f", "json")
    refusal = json.loads(compose(*operator, *huge, expect=1))
    assert refusal["reason"] and refusal["filters"], refusal


def each_user_does_its_own_work_only():
    compose("exec", "-T", "scheduler", "novella", "policy", "reload")
    compose("run", "--rm", "-T", "novella", "policy", "reload", expect=7)
    compose("exec", "-T", "compute-agent", "novella", "host", "list", expect=7)


def the_operator_sees_the_same():
    listed = json.loads(compose("run", "--rm", "-T", "novella", "host", "list", "-f", "json"))
    assert sorted(host["host"] for host in listed if host["state"] == "up") == names_of_agents(), listed


def eight_hosts():
    compose("up", "--detach", "--scale", "compute-agent=8", limit=STEP_LIMIT * 2)
    assert len(set(names_of_agents())) == 8, names_of_agents()
    wait_for("eight hosts up", lambda: hosts_up() == names_of_agents())


def a_stopped_host_is_down_at_once():
    gone = names_of_agents()[0]
    docker("stop", "-t", "20", gone)
    wait_for("goodbye of a stopped host", lambda: gone not in hosts_up())


def build():
    compose("build", "scheduler", limit=BUILD_LIMIT)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the containers are taken down then too
    steps = [
        build,
        three_hosts,
        nobody_is_root,
        three_users_and_no_guest,
        an_instance_finds_its_host,
        each_user_does_its_own_work_only,
        the_operator_sees_the_same,
        eight_hosts,
        a_stopped_host_is_down_at_once,
    ]
    try:
        for step in steps:
            began = time.monotonic()
            step()
            print(f"compose: {step.__name__} ... ok ({time.monotonic() - began:.1f} s)", flush=True)
    except (Failed, AssertionError, subprocess.TimeoutExpired) as error:
        print(f"compose: {step.__name__} ... FAILED: {error}", file=sys.stderr)
        logs = subprocess.run([*COMPOSE, "logs", "--tail", "30"], cwd=ROOT, capture_output=True, text=True, check=False)
        print(logs.stdout[-8000:], file=sys.stderr)
        return 1
    finally:
        subprocess.run([*COMPOSE, "down", "--volumes", "--remove-orphans"], cwd=ROOT, capture_output=True, check=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
