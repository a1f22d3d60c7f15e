"""Updates made again from a run's own gradients, and the numbers by which they depart."""
