"""The same jobs on the nodes of a Ray cluster."""
