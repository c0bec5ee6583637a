"""Workers: claim jobs, run each in a process of its own, give back, take over."""
