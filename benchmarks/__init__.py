"""How fast the project is beside its peers: pytest-benchmark suites, and the report that is made from them.

``parity bench`` runs the suites and writes the report; ``pytest benchmarks`` runs the suites alone. Each framework
runs in a worker process of its own with one thread, and the worker takes the time (``benchmarks.worker``), so that
talking to it costs nothing. A benchmark alternates with its peer, round by round.

    test_*.py      the suites; measuring and worker serve them
    plain/         the documents' own scripts, the peers of training
    result         what a run measured, read from its JSON
    limits, words, sections/, report    what is asked of the figures, and the page and Markdown that say it
"""
