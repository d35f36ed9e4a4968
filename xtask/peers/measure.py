"""Timing, and measurements as JSON, one a line, as `cargo xtask peers` reads them."""

import json
import math
import time


def show(name, value, **more):
    # NaN and infinity are not JSON.
    value = float(value) if math.isfinite(value) else None
    print(json.dumps(dict(name=name, value=value, **more)), flush=True)


def seconds(run):
    """The time of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def least(times, run):
    """The shortest of some runs, in seconds."""
    return min(seconds(run) for _ in range(times))


def least_within(limit, run):
    """The shortest of the runs that fit into a time, at least two, in seconds."""
    start, shortest, runs = time.perf_counter(), math.inf, 0
    while runs < 2 or time.perf_counter() - start < limit:
        shortest, runs = min(shortest, seconds(run)), runs + 1
    return shortest
