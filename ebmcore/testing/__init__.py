"""The conformance kit: every rule that a plugin must keep, as a check that says what is wrong and what to change.

In Python, and with pytest one test a check:

    from ebmcore.testing import check, parametrize_with_checks

    check(MySampler(step_size=0.1))  # raises ConformanceError, or returns what passed and what was skipped

    @parametrize_with_checks([MySampler(step_size=0.1)])
    def test_conformance(obj, check):
        check(obj)

The checks use the kit's own energies, samplers and writers and the reference noise: nothing
else has to be installed, and what is makes no difference. All randomness follows from a seed.
"""

from __future__ import annotations

from ebmcore.testing.conformance import Check as Check
from ebmcore.testing.conformance import ConformanceError as ConformanceError
from ebmcore.testing.conformance import NotApplicable as NotApplicable
from ebmcore.testing.conformance import Outcome as Outcome
from ebmcore.testing.making import energy as energy
from ebmcore.testing.making import noise as noise
from ebmcore.testing.running import Pair as Pair
from ebmcore.testing.running import check as check
from ebmcore.testing.running import executor_checks as executor_checks
from ebmcore.testing.running import kind_of as kind_of
from ebmcore.testing.running import made_of as made_of
from ebmcore.testing.running import model_checks as model_checks
from ebmcore.testing.running import noise_checks as noise_checks
from ebmcore.testing.running import outcomes as outcomes
from ebmcore.testing.running import pairs as pairs
from ebmcore.testing.running import parametrize_with_checks as parametrize_with_checks
from ebmcore.testing.running import reducer_checks as reducer_checks
from ebmcore.testing.running import sampler_checks as sampler_checks
from ebmcore.testing.running import writer_checks as writer_checks
