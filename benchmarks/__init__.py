"""How fast it is, measured beside its peers: pytest-benchmark suites, and the report that is made from them.

``parity bench`` runs them all and writes the report; ``pytest benchmarks`` runs them alone. Frameworks run in worker
processes of their own, one thread each, and take their own time (``benchmarks.worker``): what is measured is the
work, not the way there. Whatever is set against a peer alternates with it, round by round.
"""
