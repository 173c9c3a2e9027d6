"""What came in: checks, columns, integers, files and example data."""
