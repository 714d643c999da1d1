"""Lists the test executables that cargo builds, and runs one of them, with the time that each of its tests took.

An executable is run as `cargo test` runs it: in its package's directory and with the same environment. Its output is
kept, to be shown if a test fails.

The libtest of stable Rust does not print times. It starts tests in the order in which `--list` names them, as many at
once as it has threads, and names each test when it ends. So a test is taken to begin when an earlier one ended.
"""

import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time

ENDED = re.compile(r"^test (\S+)(?: - should panic)? \.\.\. (?:ok|FAILED|ignored)")
LISTED = re.compile(r"^(\S+): test$", re.MULTILINE)
CLOSING = "test result: "


@dataclasses.dataclass(frozen=True)
class Executable:
    package: str
    target: str
    path: str
    directory: pathlib.Path
    environment: dict

    @property
    def name(self):
        return f"{self.package} {self.target}"


@dataclasses.dataclass
class Outcome:
    """The result of a run. `seconds` has the time of each test. Tests that did not end are in `unfinished`."""

    status: int
    output: str
    seconds: dict
    unfinished: list

    @property
    def closing(self):
        """The summary line of libtest, or what there is instead."""
        lines = [line for line in self.output.splitlines() if line.startswith(CLOSING)]
        return lines[-1] if lines else f"ended with {self.status}, with {', '.join(self.unfinished) or 'no test'} under way"


def executables(messages):
    """The executables in the output of `cargo test --no-run --message-format=json`, in the order in which they were built."""
    cargo = {"CARGO": os.environ.get("CARGO", "cargo"), "LD_LIBRARY_PATH": library_path()}
    found = []
    for message in map(json.loads, messages.splitlines()):
        if message["reason"] != "compiler-artifact" or not message["profile"]["test"] or not message["executable"]:
            continue
        directory = pathlib.Path(message["manifest_path"]).parent
        package = re.search(r"([\w-]+)@[^@]*$", message["package_id"])[1]
        environment = {**cargo, "CARGO_MANIFEST_DIR": str(directory), "CARGO_PKG_NAME": package}
        found.append(Executable(package, message["target"]["name"], message["executable"], directory, environment))
    return found


def library_path():
    """The directory of the compiler's libraries, which tests of procedural macros need."""
    command = ["rustc", "--print", "target-libdir"]
    libraries = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return ":".join(filter(None, [libraries, os.environ.get("LD_LIBRARY_PATH")]))


def run(executable, threads, limit, environment, nice, started):
    """Runs all tests of an executable, on so many threads, for at most so many seconds. `started` is called with the process."""
    environment = {**os.environ, **executable.environment, **environment}
    where = {"cwd": executable.directory, "env": environment, "stdin": subprocess.DEVNULL, "text": True, "errors": "replace"}
    listed = subprocess.run([executable.path, "--list"], stdout=subprocess.PIPE, check=True, **where).stdout
    waiting = LISTED.findall(listed)
    command = ["nice", "-n", str(nice), executable.path, f"--test-threads={threads}"]
    running, seconds, output = {}, {}, []
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, bufsize=1, **where
    )
    started(process)
    over = threading.Timer(limit, os.killpg, (process.pid, signal.SIGKILL))
    over.start()
    fill(running, waiting, threads)
    for line in process.stdout:
        output.append(line)
        ended = ENDED.match(line)
        if ended and ended[1] in running:
            seconds[ended[1]] = time.monotonic() - running.pop(ended[1])
            fill(running, waiting, threads)
    status = process.wait()
    over.cancel()
    return Outcome(status, "".join(output), seconds, list(running))


def fill(running, waiting, threads):
    """The tests that libtest starts now."""
    while waiting and len(running) < threads:
        running[waiting.pop(0)] = time.monotonic()
