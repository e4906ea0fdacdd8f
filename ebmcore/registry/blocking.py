"""What a user blocks before anything is imported: NAME, KIND:NAME, or a distribution."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ebmcore.errors import PluginError
from ebmcore.registry.records import Record
from ebmcore.registry.requirements import canonical
from ebmcore.registry.tables import KINDS
from ebmcore.registry.wording import a, listed, near, quoted

WHERE = "--no-plugin or EBMCORE_NO_PLUGIN"


def block(records: Sequence[Record], blocked: Iterable[str]) -> list[Record]:
    """Return the records, in state `blocked` where one of the entries says so.

    Raises:
        PluginError: An entry matches nothing, or more than one kind of thing.
    """
    by = {id(record): entry for entry in blocked for record in _matches(records, entry)}
    return [
        replace(record, state="blocked", reason=f"blocked by {quoted(by[id(record)])}") if id(record) in by else record
        for record in records
    ]


def _matches(records: Sequence[Record], entry: str) -> list[Record]:
    kind, colon, name = entry.partition(":")
    if colon:
        named = [record for record in records if (record.kind, record.name) == (kind, name)]
        whole = []
    else:
        named = [record for record in records if record.name == entry]
        whole = [record for record in records if canonical(record.distribution or "") == canonical(entry)]
    readings = [f"{a(kind)} ({kind}:{entry})" for kind in KINDS if any(record.kind == kind for record in named)]
    if whole:
        readings.append("a distribution")
    if not readings:
        raise PluginError(_no_match(records, entry))
    if len(readings) > 1:
        raise PluginError(
            f"what {WHERE} blocks must be one thing; got {quoted(entry)}, which is {' and '.join(readings)}. "
            "Write KIND:NAME for a plugin."
        )
    return named or whole


def _no_match(records: Sequence[Record], entry: str) -> str:
    names = {record.name for record in records}
    homes = {record.distribution or "" for record in records}
    close = near(entry, {*names, *homes, *(f"{record.kind}:{record.name}" for record in records)})
    return (
        f"what {WHERE} blocks must be the NAME or KIND:NAME of a plugin, or a distribution; got {quoted(entry)}, which "
        f"is none.{f' Did you mean {close!r}?' if close else ''} Installed: {listed(names)}; of {listed(homes)}."
    )
