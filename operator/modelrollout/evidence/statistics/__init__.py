"""Sequential tests on counts: e-processes, which may be looked at as often as one likes. Pure; only math.

An e-process is a running amount of evidence against a null hypothesis whose expectation stays at most 1 while the
hypothesis is true, so that it ever exceeds 1/alpha with probability at most alpha (Ville's inequality).
docs/statistics.md has every formula with its source.
"""
