"""The store, the command line and the REST service: everything that faces a user."""
