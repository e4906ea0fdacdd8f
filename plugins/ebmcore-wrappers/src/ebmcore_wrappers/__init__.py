"""Samplers for ebmcore that work around another sampler: one module each, found through its entry point."""
