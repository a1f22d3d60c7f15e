"""Recordings that were changed at random: read, compared, explained and reported."""
