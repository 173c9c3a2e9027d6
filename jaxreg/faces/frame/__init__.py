"""Data frames of pandas, polars and pyarrow; `jaxreg.frame` is where the functions are imported from."""
