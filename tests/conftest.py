"""Annotations of the package are checked while the tests run; what many tests share."""

import gc
import itertools
import os
from pathlib import Path

import jaxtyping

jaxtyping.install_import_hook("jaxreg", "beartype.beartype")

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import statsmodels.api as sm  # noqa: E402

# Most of the time of the tests is compilation: workers, modes and runs share what was compiled before.
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parent.parent / ".pytest_cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_persistent_cache_enable_xla_caches", "none")

# Tracing makes many small objects, and the modules stay: to look for cycles less often saves a tenth.
gc.freeze()
gc.set_threshold(100_000, 50, 100)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """What sets the 64-bit switch by itself, or does not depend on it, runs once: with it off."""
    for item in items:
        slow_in = item.get_closest_marker("slow_in")
        if slow_in and "dtype" in item.fixturenames and str(item.callspec.params["dtype"]) in slow_in.args:
            item.add_marker(pytest.mark.slow)
    kept = _dtypes_in_turn(items)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]
    if os.environ.get("JAX_ENABLE_X64") == "1":
        for item in items:
            if item.get_closest_marker("either_mode"):
                item.add_marker(pytest.mark.skip(reason="the same with 64 bits off, where it runs"))


def _dtypes_in_turn(items):
    """Slow tests with other parameters than the dtype take the dtypes in turn, which halves their time."""
    kept, orders = set(), {}
    for item in items:
        params = dict(item.callspec.params) if hasattr(item, "callspec") else {}
        dtype = params.pop("dtype", None)
        if dtype is None or not params or not item.get_closest_marker("slow"):
            kept.add(item)
            continue
        order = orders.setdefault(item.function, {})
        index = order.setdefault(item.callspec.id.replace(str(dtype), ""), len(order))
        if index % 2 == (np.dtype(dtype) == np.float64):
            kept.add(item)
    return kept


TESTS = itertools.count()


@pytest.fixture(autouse=True)
def _forget_what_was_compiled():
    """Each compiled program holds memory maps, of which Linux allows a process 65,530: then it crashes."""
    yield
    maps = Path("/proc/self/maps")  # slow to read
    if next(TESTS) % 20 == 0 and maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture
def compiled():
    """The programs that the test has compiled so far."""
    names = []

    def listen(event, duration, **attributes):
        if "backend_compile" in event:
            names.append(attributes.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    jax.jit(lambda a: a + 1)(0.0)
    assert names  # it hears them
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture
def rng():
    return np.random.default_rng(20231201)


@pytest.fixture
def tol(dtype):
    """What two right answers may differ by, relative."""
    return {"float32": 1e-5, "float64": 1e-10}[dtype.name]


@pytest.fixture
def statsmodels():
    """Weighted least squares of statsmodels on the observations without NaN and with weight."""

    def solve(design, y, weights=None):
        w = np.ones(len(y)) if weights is None else np.asarray(weights, float)
        design, y = np.asarray(design, float), np.asarray(y, float)
        there = np.isfinite(y) & np.isfinite(design).all(axis=1)
        there &= np.where(there, w, 0) != 0
        return sm.WLS(y[there], design[there], w[there]).fit()

    return solve
