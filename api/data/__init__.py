"""Data sets that a request may name."""
