"""Measurements that need a process of their own: the start, and the memory of the process."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path


def start() -> None:
    """Print the seconds of `import jaxreg` after `import jax`, a first fit, and one of another shape."""
    import jax
    import numpy as np

    begin = time.perf_counter()
    import jaxreg

    seconds = [time.perf_counter() - begin]
    for n in (100, 50):
        x = np.arange(n, dtype="f4")
        begin = time.perf_counter()
        jax.block_until_ready(jaxreg.fit(x, x**2))
        seconds.append(time.perf_counter() - begin)
    print(*seconds)


def memmap(path: str, n: int, m: int) -> None:
    """Print µs per fit from disk and from memory, and the peak of anonymous memory in GB."""
    import jax
    import numpy as np

    import jaxreg

    x, y = np.arange(n, dtype="f4"), np.memmap(path, dtype="f4", mode="r", shape=(n, m))
    jax.block_until_ready(jaxreg.fit(x, y))  # also reads the file into the cache of the operating system
    peak, done = [0.0], threading.Event()

    def sample_memory() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], _anonymous_memory())

    watcher = threading.Thread(target=sample_memory)
    watcher.start()
    disk_time = min(_seconds(x, y) for _ in range(3)) / m
    done.set()
    watcher.join()
    in_memory_y = np.array(y[:, : m // 8])
    _seconds(x, in_memory_y)
    memory_time = min(_seconds(x, in_memory_y) for _ in range(5)) / in_memory_y.shape[1]
    print(disk_time * 1e6, memory_time * 1e6, peak[0])


def _seconds(x: object, y: object) -> float:
    import jax

    import jaxreg

    begin = time.perf_counter()
    jax.block_until_ready(jaxreg.fit(x, y))
    return time.perf_counter() - begin


def _anonymous_memory() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1e6


if __name__ == "__main__":
    {"start": start, "memmap": lambda path, n, m: memmap(path, int(n), int(m))}[sys.argv[1]](*sys.argv[2:])
