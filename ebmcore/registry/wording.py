"""How the registry's messages say things: names near a wrong one, lists of names, errors in a line."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager

from ebmcore.errors import InputError
from ebmcore.registry.records import Record
from ebmcore.registry.tables import FIRST_PARTY

LISTED = 20
"""At most so many names are listed in a message."""


class Refusal(Exception):
    """A rule that a plugin breaks: `must RULE; got VALUE. FIX`. Whoever knows the plugin's name puts it in front."""


@contextmanager
def within(path: str) -> Iterator[None]:
    """Say of an `InputError` raised inside where it is: `step_size` becomes `sampler.step_size`.

    Args:
        path: The setting that the plugin stands in, such as `sampler` or `samplers[1]`.
    """
    try:
        yield
    except InputError as error:
        message = str(error)
        error.args = (f"`{path}.{message[1:]}" if message.startswith("`") else f"`{path}`: {message}",)
        raise


def unknown(kind: str, name: str, names: Mapping[str, Collection[str]], installed: Collection[str]) -> str:
    """Say that no plugin of a kind has a name, and what may have been meant.

    Args:
        kind: The kind asked for.
        name: The name asked for.
        names: For each kind the names there are.
        installed: Canonical names of the distributions that are installed.
    """
    ours = {
        our: home for our, home in FIRST_PARTY.get(kind, {}).items() if home not in installed and our not in names[kind]
    }
    others = [other for other, there in names.items() if other != kind and name in there]
    close = near(name, {*names[kind], *ours})
    if name in ours:
        hint = f". It is part of {ours[name]}: pip install {ours[name]}."
    elif others:
        hint = f": {quoted(name)} is {a(others[0])}, not {a(kind)}."
    elif close is None:
        hint = "."
    else:
        hint = f". Did you mean '{close}'{f' (pip install {ours[close]})' if close in ours else ''}?"
    return f"no {kind} is named {quoted(name)}{hint} Installed: {listed(names[kind])}."


def unknown_anywhere(name: str, records: Collection[Record]) -> str:
    """Say that no plugin of any kind has a name, and what may have been meant.

    Args:
        name: The name asked for, with or without a distribution.
        records: All plugins there are.
    """
    bare, at, home = name.partition("@")
    homes = {record.distribution or "" for record in records if record.name == bare}
    if at and homes:
        return (
            f"plugin {quoted(bare)} must come from a distribution that gives it; got {quoted(home)}. "
            f"Distributions: {listed(homes)}."
        )
    names = {record.name for record in records}
    ours = {our: home for there in FIRST_PARTY.values() for our, home in there.items() if our not in names}
    close = near(bare, {*names, *ours})
    if bare in ours:
        hint = f" It is part of {ours[bare]}: pip install {ours[bare]}."
    else:
        hint = f" Did you mean '{close}'{f' (pip install {ours[close]})' if close in ours else ''}?" if close else ""
    return f"no plugin is named {quoted(name)}.{hint} Installed: {listed(names)}."


def near(name: str, names: Iterable[str]) -> str | None:
    """Return the name that is most like a wrong one, if any is like it; case does not count."""
    folded = {candidate.casefold(): candidate for candidate in sorted(names)}
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    return folded[close[0]] if close else None


def listed(names: Iterable[str]) -> str:
    """Return names in order, separated by commas."""
    ordered = sorted(set(names))
    rest = f" and {len(ordered) - LISTED} more" if len(ordered) > LISTED else ""
    return (", ".join(ordered[:LISTED]) or "none") + rest


def quoted(text: object) -> str:
    """Return the repr of what a user wrote, cut at 60 characters."""
    shown = " ".join(repr(text).split())
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def a(kind: str) -> str:
    """Return a kind with its article."""
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def reason_of(error: BaseException) -> str:
    """Return an exception as one line; the text of an import error says enough without its type."""
    try:
        text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    except Exception:  # a plugin's exception may fail even at being shown
        text = ""
    if isinstance(error, SystemExit):
        return f"it exits Python when imported (SystemExit: {text or 'no code'})"
    if isinstance(error, SyntaxError):
        text = str(error.msg)
    text = text if len(text) <= 200 else f"{text[:197]}..."
    if isinstance(error, ImportError) and text:
        return text.rstrip(".")
    return f"{type(error).__name__}: {text}".rstrip(".: ")
