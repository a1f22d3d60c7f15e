"""Weights carried between models of different frameworks: their layers, which is which, and what proves it."""
