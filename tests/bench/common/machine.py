"""What the measurements were made on: the machine, its load, and the versions."""

import datetime
import os
import platform
import re
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]


def describe():
    """What does not change during a run."""
    cpu = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.+)$", cpu, re.M)
    memory = re.search(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(), re.M)
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "virtual": " hypervisor" in cpu,
        "memory_gib": round(int(memory[1]) / 2**20, 1) if memory else None,
        "kernel": platform.release(),
        "max_map_count": int(Path("/proc/sys/vm/max_map_count").read_text()),
    }


class Load:
    """How busy the machine was, ours included, and how much of it others took."""

    def __init__(self):
        self.begun = datetime.datetime.now(datetime.timezone.utc)
        self.before = os.getloadavg()[0]
        self.ticks = cpu_ticks()

    def done(self):
        busy = [now - then for now, then in zip(cpu_ticks(), self.ticks)]
        total = sum(busy) or 1
        return {
            "date": self.begun.isoformat(timespec="seconds"),
            "load_before": round(self.before, 2),
            "load_after": round(os.getloadavg()[0], 2),
            # Fields 4, 5 and 8 of a cpu line: idle, waiting for disks, taken by the hypervisor.
            "idle_percent": round(100 * (busy[3] + busy[4]) / total, 1),
            "stolen_percent": round(100 * (busy[7] if len(busy) > 7 else 0) / total, 1),
        }


def cpu_ticks():
    first = Path("/proc/stat").read_text().split("\n", 1)[0]
    return [int(word) for word in first.split()[1:9]]


def said(command):
    """What a command prints, in one line; what is wrong if it cannot."""
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown ({error})"
    return " ".join((ran.stdout + ran.stderr).split())


def wasm_node_version(program):
    git = ["git", "-C", str(REPOSITORY)]
    commit = said([*git, "rev-parse", "--short=10", "HEAD"])
    changed = " with changes" if said([*git, "status", "--porcelain", "-uno"]) else ""
    profile = Path(program).resolve().parent.name
    return f"{said([str(program), '--version'])}, commit {commit}{changed}, {profile} build"


def beam_version():
    words = (
        'io:format("OTP ~s, ERTS ~s, ~s", [erlang:system_info(otp_release), '
        "erlang:system_info(version), erlang:system_info(emu_flavor)]), halt()."
    )
    return "Erlang/" + said(["erl", "-noshell", "-eval", words])


def told(machine, load, versions):
    """All of it as sentences."""
    virtual = ", virtual" if machine["virtual"] else ""
    return (
        f"Machine: {machine['cpu']}{virtual}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, Linux {machine['kernel']}. "
        f"Load {load['load_before']} before and {load['load_after']} after; "
        f"{load['idle_percent']} % idle, {load['stolen_percent']} % taken by other guests meanwhile. "
        f"{load['date']}. " + "; ".join(versions) + ".\n"
    )
