"""The surrogate behind `guided`: what is known of networks, a Gaussian process over them, and where it is highest."""
