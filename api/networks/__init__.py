"""Search spaces and what a network of one is, told in the words of the field."""
