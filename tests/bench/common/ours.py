"""wasm-node's side: `bench`, and nodes for it to talk to."""

from common.rig import free_port, say

MAX_WORDS = 20
"""Lines of its log that are shown and kept, of each measurement."""


class WasmNode:
    """Runs `wasm-node bench` in a process of its own each time."""

    def __init__(self, rig, program, module):
        self.rig = rig
        self.program = program
        self.module = module
        self.words = []
        self.environment = rig.environment(free_port())

    def start_peer(self, name, *options):
        """A node that waits; the first one is the port mapper too."""
        command = [self.program, "--log", "error", "start", "--json", "--sname", name]
        data = self.rig.folder / name
        self.rig.start_ready([*command, "--data-dir", data, *options], self.environment)

    def bench(self, *words):
        """What it printed; what it said beside goes to the person who waits, and is kept."""
        command = [self.program, "bench", *words, "--module", self.module]
        out, err = self.rig.run(command, self.environment)
        lines = [line for line in err.splitlines() if line.strip() and "module loaded" not in line]
        if len(lines) > MAX_WORDS:
            lines = [*lines[:MAX_WORDS], f"... and {len(lines) - MAX_WORDS} lines more"]
        self.words += lines
        for line in lines:
            say(line)
        return out

    def local(self, figure, rounds):
        return self.bench("local", "--only", figure, "--rounds", rounds)

    def remote(self, figure, rounds, peer, *options):
        words = ["--peer", peer, "--only", figure, "--rounds", rounds, *options]
        return self.bench("remote", *words)

    def scale(self, workers, actors, messages, rounds):
        words = ["--workers", workers, "--actors", actors, "--messages", messages]
        return self.bench("scale", "--only", "messages", *words, "--rounds", rounds)

    def idle(self, actors):
        return self.bench("scale", "--only", "idle", "--idle", actors)
