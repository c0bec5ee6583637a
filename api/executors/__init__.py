"""Where a search's trials run, beyond this machine's own processes."""
