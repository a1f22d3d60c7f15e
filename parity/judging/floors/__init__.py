"""Noise floors: measured, kept, found, and whether they could see a mistake."""
