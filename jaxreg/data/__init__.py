"""The arguments of `fit` and files: checks, conversion to columns, labels, readers and example data."""
