#!/usr/bin/env python3
"""Runs the tests of `make test`, or only the parts that are named as arguments:

    workspace    every test of every crate, including the suites rabbit and interop (with oslo.messaging) on Debian's
                 RabbitMQ 3.10
    conformance  compares the answers of Nova 34 itself and of novella to 2,500 random requests
    rabbit-4.0   both suites on RabbitMQ 4.0, with everything denied that 4.3 refuses
    compose      the shipped image and compose file on a Docker engine

Parts run side by side. Work that mostly waits, for the network or for time to pass, has a higher priority than work that
computes. So the cores are always busy, and waits do not get longer: packages are installed while cargo builds, and both
brokers are tested while the release build and the computing tests run.

A part that this machine cannot run is skipped by name, and all skips are listed at the end. A failed part does not stop
the others. With NOVELLA_REQUIRE=1 (CI), a part that could have been fetched is a failure.
"""

import concurrent.futures
import heapq
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import threading
import time

import libtest

ROOT = pathlib.Path(__file__).resolve().parents[1]
STATE = pathlib.Path(os.environ.get("NOVELLA_TEST_DIR", ROOT / "target" / "test-env"))
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
SKIPS = STATE / "skips"
CORES = os.cpu_count()

# The suites on a broker. Some of their tests stop it, so only one suite at a time uses a broker. More threads than cores
# do not make them faster, because the tests that need the broker for themselves take most of the time.
SUITES = ("novella-tests rabbit", "novella-tests interop")
# One test of this executable uses a broker too, if there is one.
COMMAND_LINE = "novella-cli novella"
# Longest run of one executable, in seconds. An executable that hangs is ended, and the tests in progress are named.
LIMIT = 1200
# Niceness. The suites on a broker have 0, because they take longest just by
# waiting.
BUILDING, COMPUTING = 5, 10

UNABLE = 3  # exit code of scripts/lib.sh: this machine cannot run it
SLOWEST = 10


class Skipped(Exception):
    """This machine cannot run it."""


class Failed(Exception):
    """It should have worked."""


class Processes:
    """The running processes, so that none is left behind when the run is interrupted."""

    def __init__(self):
        self.lock, self.alive, self.over = threading.Lock(), set(), False

    def started(self, process):
        with self.lock:
            self.alive = {one for one in self.alive if one.poll() is None} | {process}
            if self.over:
                os.killpg(process.pid, signal.SIGTERM)

    def end(self):
        """Ends all of them, and those that are started from now on."""
        with self.lock:
            self.over = True
            for process in self.alive:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGTERM)


class Check:
    """One run. Whatever parts need is prepared once, and the parts get it as futures."""

    def __init__(self):
        self.pool = concurrent.futures.ThreadPoolExecutor(256)
        self.processes = Processes()
        self.printing = threading.Lock()
        self.computing = threading.Semaphore(CORES)
        self.began = time.monotonic()
        self.spans = []  # (began, ended, what), in seconds since the start
        self.seconds = {}  # of each test
        self.cleanup = []

    def say(self, text):
        with self.printing:
            print(text, flush=True)

    def timed(self, what, action, *arguments):
        began = time.monotonic() - self.began
        try:
            return action(*arguments)
        finally:
            self.spans.append((began, time.monotonic() - self.began, what))

    def attempt(self, what, action, *arguments):
        """Whether it passed."""
        try:
            return self.timed(what, action, *arguments)
        except (Failed, Skipped, OSError, subprocess.SubprocessError) as error:
            self.say(f"FAILED: {what}: {error}")
            return False

    def run(self, *command, environment=None, nice=0, live=True):
        """Standard output of a command. Its standard error is passed on at once, or only if it fails."""
        process = subprocess.Popen(
            ["nice", "-n", str(nice), *command],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.processes.started(process)
        said = []

        def listen():
            for line in process.stderr:
                said.append(line.rstrip())
                if live:
                    self.say(said[-1])

        listener = threading.Thread(target=listen)
        listener.start()
        output = process.stdout.read()
        listener.join()
        status = process.wait()
        if status == UNABLE:
            raise Skipped(said[-1] if said else shlex.join(command))
        if status:
            self.say("\n".join([output, *([] if live else said)]))
            raise Failed(f"{shlex.join(command)}: exit code {status}")
        return output

    def script(self, name, *words, **options):
        return self.run(f"scripts/{name}", *words, **options)

    # Whatever parts need. Each is None if this machine cannot have it.

    def built(self):
        """The test executables. All are built before any runs, because some run the programs of other packages."""
        self.or_skip("documented commands with jq", self.script, "tools.sh")
        command = ("cargo", "test", "--workspace", "--locked", "--no-run", "--message-format=json-render-diagnostics")
        return libtest.executables(self.run(*command, nice=BUILDING))

    def broker(self, flavour):
        """The environment with which tests find this RabbitMQ."""
        on = ("--flavour", flavour)
        if self.script("rabbitmq.sh", *on, "status").strip() == "stopped":
            self.cleanup.append(("rabbitmq.sh", *on, "stop"))
        self.script("rabbitmq.sh", *on, "start")
        return exported(self.script("rabbitmq.sh", *on, "env"))

    def nova(self):
        """The Python interpreter that has Nova and oslo.messaging."""
        self.script("conformance.sh", "prepare")
        return self.script("conformance.sh", "python").strip()

    def engine(self):
        """The environment with which compose finds a Docker engine that has the base images."""
        if subprocess.run([ROOT / "scripts/docker.sh", "env"], capture_output=True, check=False).returncode:
            self.cleanup.append(("docker.sh", "stop"))
        self.script("docker.sh", "start")
        self.script("docker.sh", "images")
        return exported(self.script("docker.sh", "env"))

    def or_skip(self, what, action, *arguments):
        try:
            return self.timed(f"{what} made ready", action, *arguments)
        except Skipped as reason:
            line = f"SKIPPED: {what}: {reason}"
            self.say(line)
            with open(SKIPS, "a", encoding="utf-8") as skips:
                skips.write(f"{line}\n")
            return None

    # The parts. Each returns whether it passed, and gets what it needs as futures.

    def workspace(self, built, broker, nova):
        on_broker = (*SUITES, COMMAND_LINE)
        computing = [self.pool.submit(self.compute, one) for one in built.result() if one.name not in on_broker]
        computing.append(self.pool.submit(self.documentation))
        waiting = self.on_broker([one for one in built.result() if one.name in on_broker], broker, nova, "3.10")
        return all([waiting, *(one.result() for one in computing)])

    def rabbit_4(self, built, broker, nova):
        if not broker.result():
            return True
        return self.on_broker([one for one in built.result() if one.name in SUITES], broker, nova, "4.0")

    def conformance(self, built, nova):
        if not nova.result():
            return True
        built.result()
        novella = {"NOVELLA": str(TARGET / "debug" / "novella")}
        for words in (["--self-test"], ["--cases", "2500"]):
            self.say(self.script("conformance.sh", *words, environment=novella, nice=COMPUTING))
        return True

    def compose(self, engine, built=None):
        if not engine.result():
            return True
        if built:  # that build comes first, because most other parts wait for it
            concurrent.futures.wait([built])
        self.timed("release build for the image", lambda: self.script("docker.sh", "share", nice=BUILDING))
        command = ("python3", "tests/compose/run.py")
        self.say(self.timed("image and compose file", lambda: self.run(*command, environment=engine.result())))
        return True

    # Test executables.

    def on_broker(self, executables, broker, nova, flavour):
        environment = dict(broker.result() or {})
        if nova.result():
            environment["NOVELLA_TEST_PYTHON"] = nova.result()
        where = f" on {flavour}"
        return all([self.execute(one, environment, where=where) for one in executables])

    def compute(self, executable):
        with self.computing:
            return self.execute(executable, {}, nice=COMPUTING)

    def execute(self, executable, environment, nice=0, where=""):
        environment = {"NOVELLA_SKIPS_FILE": str(SKIPS), **environment}
        what = executable.name + where

        def run():
            outcome = libtest.run(executable, CORES, LIMIT, environment, nice, self.processes.started)
            self.seconds.update((f"{what} {test}", seconds) for test, seconds in outcome.seconds.items())
            closing = f"{what}: {outcome.closing}"
            self.say(f"\n{outcome.output}\n{closing}\n" if outcome.status else closing)
            return not outcome.status

        return self.attempt(what, run)

    def documentation(self):
        """The examples in documentation."""
        command = ("cargo", "test", "--workspace", "--locked", "--doc", "--quiet", "--no-fail-fast")

        def run():
            self.run(*command, nice=COMPUTING, live=False)
            return True

        with self.computing:
            return self.attempt("documentation", run)


def exported(lines):
    """The variables that `export NAME=VALUE` lines set."""
    return dict(shlex.split(line)[1].split("=", 1) for line in lines.splitlines())


def summary(check, failed):
    print(f"\n== the slowest {SLOWEST} tests")
    for test, seconds in heapq.nlargest(SLOWEST, check.seconds.items(), key=lambda item: item[1]):
        print(f"{seconds:7.1f} s  {test}")
    print("\n== from when to when, in seconds")
    for began, ended, what in sorted(check.spans):
        if ended - began >= 5:
            print(f"{began:6.0f} to {ended:4.0f}  {what}")
    skips = sorted(set(SKIPS.read_text(encoding="utf-8").splitlines()))
    print("\n== summary", *skips, f"skipped: {len(skips)}", sep="\n")
    print(f"FAILED: {' '.join(failed)}" if failed else "all parts passed", flush=True)


def interrupted(*_):
    raise KeyboardInterrupt


def main():
    check = Check()
    # Whatever parts need is prepared in this order.
    needs = {
        "built": ("tests", check.built),
        "nova": ("Nova and oslo.messaging", check.nova),
        "3.10": ("RabbitMQ 3.10", check.broker, "3.10"),
        "4.0": ("RabbitMQ 4.0", check.broker, "4.0"),
        "engine": ("compose file", check.engine),
    }
    known = {
        "workspace": (check.workspace, "built", "3.10", "nova"),
        "conformance": (check.conformance, "built", "nova"),
        "rabbit-4.0": (check.rabbit_4, "built", "4.0", "nova"),
        "compose": (check.compose, "engine"),
    }
    parts = list(dict.fromkeys(sys.argv[1:])) or list(known)
    if unknown := [part for part in parts if part not in known]:
        sys.exit(f"unknown part {' '.join(unknown)}; there are {' '.join(known)}")
    if len(parts) > 1:
        known["compose"] += ("built",)
    STATE.mkdir(parents=True, exist_ok=True)
    SKIPS.write_text("", encoding="utf-8")  # the tests add a line for each thing that they had to skip
    signal.signal(signal.SIGTERM, interrupted)
    try:
        wanted = {need for part in parts for need in known[part][1:]}
        ready = {need: check.pool.submit(check.or_skip, *needs[need]) for need in needs if need in wanted}
        passed = {}
        for part in parts:
            action, *its_needs = known[part]
            passed[part] = check.pool.submit(check.attempt, part, action, *(ready[need] for need in its_needs))
        failed = [part for part, future in passed.items() if not future.result()]
        summary(check, failed)
        return 1 if failed else 0
    except KeyboardInterrupt:
        check.processes.end()
        return 130
    finally:
        check.pool.shutdown()
        for command in check.cleanup:
            subprocess.run([ROOT / "scripts" / command[0], *command[1:]], stdin=subprocess.DEVNULL, check=False)


if __name__ == "__main__":
    sys.exit(main())
