"""What jobs do: a module per kind."""
