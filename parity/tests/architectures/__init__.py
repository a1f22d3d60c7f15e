"""Architectures that nobody looked at while the matching and the layers were built, as their porters wrote them."""
