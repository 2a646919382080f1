"""The demonstration's own parts: its input, its processes, its verdict and its report."""
