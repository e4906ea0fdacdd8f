"""Benchmarks: the same work by ebmcore and by what one would write instead. Run: python -m tests.benchmarks."""
