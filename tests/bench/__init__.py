"""The numbers of `make bench`: one module a benchmark, measured on real parts, judged against their limits."""
