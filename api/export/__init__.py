"""What a user takes home: files that run, and what a stranger needs to know about them."""
