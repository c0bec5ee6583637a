"""Boards and users' own models: profiling, finding the right table, telling what was measured."""
