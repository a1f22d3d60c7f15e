"""Training in each framework: one file for each, and one for each other way of training in it.

No other file of the harness imports a framework.
"""
