"""What wrk prints, as numbers. Pure."""

import re
import statistics

MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


def milliseconds(words):
    number, unit = re.fullmatch(r"([0-9.]+)(us|ms|s|m)", words).groups()
    return float(number) * MS[unit]


def parse(text):
    """Requests per second, percentiles in ms, requests in all, and how many went wrong."""
    percentile = lambda part: milliseconds(re.search(rf"^\s+{part}%\s+(\S+)\s*$", text, re.M)[1])
    socket_errors = re.search(r"Socket errors: (.*)", text)
    errors = sum(int(n) for n in re.findall(r"\d+", socket_errors[1])) if socket_errors else 0
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return {
        "requests_per_s": float(re.search(r"^Requests/sec:\s+([0-9.]+)", text, re.M)[1]),
        "p50_ms": percentile(50),
        "p99_ms": percentile(99),
        "requests": int(re.search(r"^\s*(\d+) requests in", text, re.M)[1]),
        "errors": errors + (int(refused[1]) if refused else 0),
    }


def together(runs):
    """Several wrk at once as one: their sum, and the worst of their percentiles."""
    total = {key: sum(run[key] for run in runs) for key in ("requests_per_s", "requests", "errors")}
    return total | {key: max(run[key] for run in runs) for key in ("p50_ms", "p99_ms")}


def median(runs):
    """One run after the other: the median of each number; errors add up."""
    medians = {key: statistics.median(run[key] for run in runs) for key in runs[0] if key != "errors"}
    return medians | {"errors": sum(run["errors"] for run in runs)}
