"""Raises when it is imported, with a text of several lines."""

raise RuntimeError("no licence was found\nask your administrator")
