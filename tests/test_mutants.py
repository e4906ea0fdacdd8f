"""The conformance kit finds what is wrong: plugins with one fault each, and the check that must fail for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ebmcore.testing import ConformanceError, outcomes, pairs
from tests.mutants import models, reducers, samplers, writers

ALL = [*samplers.MUTANTS, *models.MUTANTS, *writers.MUTANTS, *reducers.MUTANTS]
PAGE = Path(__file__).parents[1] / "docs" / "mutations.md"


def name(mutant):
    return f"{mutant.kind}-{type(mutant.object).__name__}"


@pytest.mark.parametrize("mutant", ALL, ids=name)
def test_a_wrong_plugin_is_caught_by_the_check_that_is_named(mutant):
    found = pairs(mutant.kind, mutant.object, **mutant.arguments)
    (check,) = [pair.check for pair in found if pair.check.name == mutant.caught]
    with pytest.raises(ConformanceError) as caught:
        check(mutant.object)
    message = str(caught.value)
    assert type(mutant.object).__name__ in message or "energy" in message or "gradient" in message
    assert "; got " in message
    assert message.endswith(".")


@pytest.mark.parametrize(
    ("kind", "right"),
    [
        *(("sampler", each) for each in samplers.RIGHT),
        *(("model", each) for each in models.RIGHT),
        *(("writer", each) for each in writers.RIGHT),
        *(("reducer", each) for each in reducers.RIGHT),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_they_are_made_from_is_right(kind, right):
    # Else a mutant might be caught for what it shares with all of them.
    failed = [f"{each.check.name}: {each.text}" for each in outcomes(pairs(kind, right)) if each.state == "failed"]
    assert not failed


def table():
    rows = ["| kind | what is wrong | caught by |", "|---|---|---|"]
    return "\n".join([*rows, *(f"| {each.kind} | {_escaped(each.wrong)} | `{each.caught}` |" for each in ALL)])


def _escaped(text):
    # A line of a table is cut at each of these.
    return text.replace("|", "\\|")


def test_the_page_has_the_table():
    assert table() in PAGE.read_text()
