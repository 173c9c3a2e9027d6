"""What has to be measured in a process of its own: the start, and the memory of the operating system."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path


def start() -> None:
    """Seconds that `import jaxreg` adds to `import jax`, of the first fit and of one of another shape."""
    import jax
    import numpy as np

    moment = time.perf_counter()
    import jaxreg

    seconds = [time.perf_counter() - moment]
    for n in (100, 50):
        x = np.arange(n, dtype="f4")
        moment = time.perf_counter()
        jax.block_until_ready(jaxreg.fit(x, x**2))
        seconds.append(time.perf_counter() - moment)
    print(*seconds)


def memmap(path: str, n: int, m: int) -> None:
    """µs per fit from disk and from memory, and the peak of anonymous memory in GB."""
    import jax
    import numpy as np

    import jaxreg

    x, y = np.arange(n, dtype="f4"), np.memmap(path, dtype="f4", mode="r", shape=(n, m))
    jax.block_until_ready(jaxreg.fit(x, y))  # and the file is in the cache of the operating system
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], _anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    from_disk = min(_seconds(x, y) for _ in range(3)) / m
    done.set()
    watcher.join()
    some = np.array(y[:, : m // 8])
    _seconds(x, some)
    in_memory = min(_seconds(x, some) for _ in range(5)) / some.shape[1]
    print(from_disk * 1e6, in_memory * 1e6, peak[0])


def _seconds(x: object, y: object) -> float:
    import jax

    import jaxreg

    moment = time.perf_counter()
    jax.block_until_ready(jaxreg.fit(x, y))
    return time.perf_counter() - moment


def _anonymous() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1e6


if __name__ == "__main__":
    {"start": start, "memmap": lambda path, n, m: memmap(path, int(n), int(m))}[sys.argv[1]](*sys.argv[2:])
