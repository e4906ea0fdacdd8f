"""What all tests of the host share."""

from __future__ import annotations

from hypothesis import settings

# The same examples in every run, and no time limit a case: machines differ by a factor of two.
settings.register_profile("ebmcore", deadline=None, derandomize=True)
settings.load_profile("ebmcore")
