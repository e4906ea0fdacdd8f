"""Observers of ebmcore's runs, one a module."""
