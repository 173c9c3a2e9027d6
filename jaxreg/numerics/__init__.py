"""Double-double arithmetic, small matrices, precision and pytrees; nothing specific to regression."""
