"""Benchmarks. `python -m bench` runs them all; they print ratios, and assert nothing."""
