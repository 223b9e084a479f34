"""The BEAM's side: the module `beam_peer`, a port mapper, and nodes."""

import subprocess

from common.machine import REPOSITORY
from common.rig import free_port, say, wait_for_port

SOURCE = REPOSITORY / "tests/bench/beam_peer.erl"
PEER = "beam_b@localhost"
MAX_PROCESSES = "2000000"
"""By default it takes 262,144."""


class Beam:
    """Compiles the work; runs it in a node of its own each time."""

    def __init__(self, rig):
        self.rig = rig
        self.folder = rig.folder / "beam"
        self.folder.mkdir()
        self.port = free_port()
        # Nodes look for a cookie, and leave one, in the home folder.
        self.environment = rig.environment(self.port) | {"HOME": str(self.folder)}
        rig.run(["erlc", "-o", self.folder, SOURCE], self.environment)

    def erl(self, *words):
        return ["erl", "-noshell", "-pa", self.folder, *words]

    def node(self, name):
        return self.erl(
            *("-sname", name, "-setcookie", self.rig.cookie, "-start_epmd", "false"),
            *("-kernel", "inet_dist_use_interface", "{127,0,0,1}"),
        )

    def start_peer(self):
        """A port mapper and a node that waits."""
        epmd = ["epmd", "-port", str(self.port), "-address", "127.0.0.1"]
        # It would complain of who only looks whether it listens.
        self.rig.start(epmd, env=self.environment, stderr=subprocess.DEVNULL)
        wait_for_port(self.port)
        self.rig.start(self.node(PEER), env=self.environment, stdout=subprocess.DEVNULL)
        names = ["epmd", "-port", str(self.port), "-names"]
        while PEER.split("@")[0] not in self.run(names):
            pass

    def main(self, *words):
        return ["-run", "beam_peer", "main", *map(str, words)]

    def run(self, command):
        """What it printed; what it complained of goes to the person who waits."""
        out, err = self.rig.run(command, self.environment)
        if err.strip():
            say(err.rstrip())
        return out

    def local(self, figure, rounds):
        return self.run(self.erl(*self.main("local", figure, rounds)))

    def remote(self, figure, rounds):
        work = self.main("remote", PEER, figure, rounds)
        return self.run([*self.node("beam_a@localhost"), *work])

    def scale(self, workers, actors, messages, rounds):
        work = self.main("scale", actors, messages, rounds)
        return self.run(self.erl("+P", MAX_PROCESSES, "+S", f"{workers}:{workers}", *work))

    def idle(self, actors):
        return self.run(self.erl("+P", MAX_PROCESSES, *self.main("idle", actors)))
