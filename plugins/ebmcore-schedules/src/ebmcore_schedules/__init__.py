"""Schedules for ebmcore's settings: one module each, found through its entry point."""
