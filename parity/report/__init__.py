"""Verdicts as people read them: in the terminal, and as pages."""
