"""The layer in which two runs part."""
