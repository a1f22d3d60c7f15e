"""Many cells: which there are, what they depend on, worker processes, the matrix."""
