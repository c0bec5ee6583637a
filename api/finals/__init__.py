"""The finals of a search: its best networks and the obvious choices beside them, trained to the end and compared."""
