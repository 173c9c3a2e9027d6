"""Pictures with matplotlib; `jaxreg.plot` is where they are imported from."""
