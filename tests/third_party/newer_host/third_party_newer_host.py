"""Wants a host of the future; importing it here would be a mistake."""

raise ImportError("cannot import name 'future' from 'ebmcore.protocols'")
