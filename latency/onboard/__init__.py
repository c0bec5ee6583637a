"""The runner: what is sent to a board. It loads networks, times them, and answers in JSON lines (`server`).

The standard library and the engine only, Python 3.9 or newer, nothing else of ours: the modules import each other
relatively. On a board the package is one file (`latency.bundle`).
"""
