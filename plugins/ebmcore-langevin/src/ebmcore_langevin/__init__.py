"""Langevin samplers for ebmcore: one module an algorithm, each found through its entry point."""
