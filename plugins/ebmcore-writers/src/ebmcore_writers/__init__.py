"""Writers for ebmcore: one module a format, each found through its entry point."""
