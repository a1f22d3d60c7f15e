"""Which tensors of two runs are the same, and both runs in one layout."""
