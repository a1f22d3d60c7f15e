"""Training in each framework: one file for each, the only file of the harness that imports it."""
