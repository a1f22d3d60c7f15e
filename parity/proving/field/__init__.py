"""Pairs of runs of small models with one fault each that people met in public: are they caught, located and named?"""
