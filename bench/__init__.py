"""Benchmarks: jaxreg, other libraries, and one read of the data, timed in one run."""
