"""Arithmetic and small matrices, with no knowledge of regression."""
