"""Latency on real boards: transports, engines, the profiler and its tables."""
