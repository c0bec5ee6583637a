"""What is served at /api/v1: a router per noun."""
