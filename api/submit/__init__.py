"""What people ask for: searches and jobs from the command line or over REST, and steering them."""
