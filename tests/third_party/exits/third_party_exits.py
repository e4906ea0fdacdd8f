"""Ends Python when it is imported."""

raise SystemExit(3)
