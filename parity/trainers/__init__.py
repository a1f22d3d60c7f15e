"""How each framework trains: one file a framework, and the only files of the harness that import it."""
