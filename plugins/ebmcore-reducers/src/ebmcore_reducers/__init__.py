"""Statistics of all draws of a run for ebmcore: one module each, found through its entry point."""
