"""Processes and folders of a measurement. Whatever was started is ended, however a script ends."""

import ctypes
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from common.machine import REPOSITORY

FIGURE_TIMEOUT_S = 600
"""The longest that one measurement may take; then it fails."""
READY_TIMEOUT_S = 900
"""How long nodes may take to say that they are ready: they may have actors to build first."""
END_TIMEOUT_S = 25
"""How long a process may take to end when told to; then it is killed."""
MAX_LAST_WORDS = 10
"""Lines that are shown from the beginning and the end of what a failed process printed."""
PR_SET_PDEATHSIG = 1


class Failed(Exception):
    """A process did not do what it was started for; says what it printed."""


def say(text):
    """To the person who waits; figures go to standard output, this does not."""
    print(text, file=sys.stderr, flush=True)


def die_with_parent():
    # Should this script be killed, so that it cannot end its children, the system does.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def free_port():
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Rig:
    """A temporary folder and the processes that run in it. Use it with `with`."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="wasm-node-bench-"))
        self.cookie = secrets.token_hex(16)
        self.running = []

    def __enter__(self):
        # So that `with` ends things on SIGTERM too.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return self

    def __exit__(self, *_):
        for process in reversed(self.running):
            self.end(process)
        shutil.rmtree(self.folder, ignore_errors=True)

    def environment(self, epmd_port):
        """For either side: its own port mapper's port, and cookie."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ERL_", "WASM_NODE_"))}
        return kept | {
            "ERL_EPMD_PORT": str(epmd_port),
            "WASM_NODE_COOKIE": self.cookie,
        }

    def start(self, command, **how):
        """Starts a process that lives until it is ended."""
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            text=True,
            # A group of its own, so that what it has started can be ended with it.
            process_group=0,
            preexec_fn=die_with_parent,
            **how,
        )
        self.running.append(process)
        return process

    def end(self, process, how=signal.SIGTERM):
        """Ends a process of `start`, and waits for that."""
        if process.poll() is None:
            process.send_signal(how)
            try:
                process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process in self.running:
            self.running.remove(process)
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def run(self, command, environment, timeout_s=FIGURE_TIMEOUT_S):
        """Runs a process to its end; gives what it printed, on standard output and on error."""
        process = self.start(
            command,
            env=environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise Failed(f"{command} took more than {timeout_s} s") from None
        finally:
            self.end(process, signal.SIGKILL)
        if process.returncode != 0:
            words = (out + err).splitlines()
            if len(words) > 2 * MAX_LAST_WORDS:
                words[MAX_LAST_WORDS:-MAX_LAST_WORDS] = [f"... {len(words)} lines in all ..."]
            said = "\n".join(words)
            raise Failed(f"{' '.join(map(str, command))} failed with {process.returncode}:\n{said}")
        return out, err

    def start_ready(self, command, environment):
        """Starts a process that prints a line of JSON when it is ready; gives both."""
        words = self.folder / f"words-{len(self.running)}.txt"
        with words.open("w") as log:
            process = self.start(
                command, env=environment, cwd=self.folder, stdout=subprocess.PIPE, stderr=log
            )
        line = first_line(process, READY_TIMEOUT_S)
        try:
            return process, json.loads(line)
        except ValueError:
            raise Failed(f"{command} did not get ready: {line}{words.read_text()}") from None


def first_line(process, timeout_s):
    """The first line that a process prints. What it prints later is read and dropped."""
    first = []

    def read():
        first.append(process.stdout.readline())
        arrived.set()
        for _ in process.stdout:
            pass

    arrived = threading.Event()
    threading.Thread(target=read, daemon=True).start()
    arrived.wait(timeout_s)
    return first[0].strip() if first else ""


def wait_for_port(port, timeout_s=10):
    """Until somebody listens there."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise Failed(f"nobody listens on port {port}") from None
            time.sleep(0.02)


def the_program(given):
    """The program to measure: the one given, or a release build of this repository."""
    if given:
        return Path(given).resolve()
    say("building wasm-node with optimisation (cargo build --release)")
    subprocess.run(["cargo", "build", "--release", "-p", "wasm-node"], cwd=REPOSITORY, check=True)
    return REPOSITORY / "target/release/wasm-node"


def the_component(program, folder, given=None):
    """The component of an actor, given its source folder in the repository."""
    if given:
        return Path(given).resolve()
    command = [str(program), "build", str(REPOSITORY / folder)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Path(ran.stdout.strip().splitlines()[-1])


def need(programs, packages, install):
    """Sees that these programs are there; installs Debian's packages if told to."""
    missing = [program for program in programs if not shutil.which(program)]
    if not missing:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    if not install:
        sys.exit(f"{', '.join(missing)} missing: run {' '.join(command)}, or give --install")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for step in (["apt-get", "update"], command):
        say("running " + " ".join(step))
        subprocess.run(step, check=True, env=environment, stdout=sys.stderr)
