"""A run on disk: its format, its names, writing and reading."""
