"""The cost surface of a line, moved by hand; `jaxreg.widget` is where it is imported from."""
