"""Energies for ebmcore: one module a model, each found through its entry point."""
