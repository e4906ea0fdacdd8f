"""Entry points of installed distributions -> records. Reads metadata only, and nothing in it makes a listing fail."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import importlib_metadata

from ebmcore.registry.records import Record, State
from ebmcore.registry.references import name_fault, value_fault
from ebmcore.registry.requirements import HOST, canonical, refusal
from ebmcore.registry.tables import KINDS
from ebmcore.registry.wording import reason_of

if TYPE_CHECKING:
    from importlib_metadata import IDistribution

_KIND_OF = {group: kind for kind, group in KINDS.items()}


class Found(NamedTuple):
    """What is installed."""

    records: list[Record]
    """States `available`, `failed`, `incompatible`; one a kind, name and distribution."""
    distributions: frozenset[str]
    """Canonical names of all distributions, those without plugins too."""


class _Entry(NamedTuple):
    kind: str
    name: str
    value: str
    fault: str | None


def discover(distributions: Iterable[IDistribution] | None, host_version: str | None) -> Found:
    """Read the metadata of distributions, each file once.

    Args:
        distributions: What is looked through, in the order of the path; by default all that is installed.
        host_version: By default the version of the installed host, looked up if a requirement asks for it.
    """
    seen = importlib_metadata.distributions() if distributions is None else distributions
    installed = _first_of_each(seen)
    version = cache(lambda: _version_of_host(installed) if host_version is None else host_version)
    records = [
        record
        for name, distribution in installed.items()
        if (entries := list(_entries(distribution)))
        for record in _records(name, distribution, entries, version)
    ]
    return Found(records, frozenset(installed))


def mark_conflicts(records: Iterable[Record]) -> list[Record]:
    """Return the records with `conflict` where several distributions give one name of one kind.

    A blocked one is out of the way, since that was asked for. An incompatible or failed one is
    not: its name must not silently come to mean another distribution's plugin.
    """
    records = list(records)
    homes: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record.state != "blocked":
            homes.setdefault((record.kind, record.name), []).append(record)

    def marked(record: Record) -> Record:
        rivals = [other for other in homes.get((record.kind, record.name), []) if other is not record]
        if record.state != "available" or not rivals:
            return record
        also = ", ".join(str(other.distribution) for other in rivals)
        return replace(record, state="conflict", reason=f"also given by {also}: write {chosen(record)}")

    return [marked(record) for record in records]


def chosen(record: Record) -> str:
    """Return how a user asks for this distribution's plugin: 'ula@ebmcore-langevin'."""
    return f"'{record.name}@{canonical(record.distribution or '')}'"


def _first_of_each(distributions: Iterable[IDistribution]) -> dict[str, IDistribution]:
    """Return one distribution a name: the first on the path, as for imports.

    An editable install beside its egg-info, or a folder twice on the path, is one
    distribution. Of several, an emptied folder without metadata is passed over.
    """
    found: dict[str, list[IDistribution]] = {}
    for distribution in distributions:
        name = _folder_name(distribution)
        # pip leaves folders such as `~umpy-1.0.dist-info` behind when it is interrupted
        if name is not None and re.match(r"[a-z0-9]", name):
            found.setdefault(name, []).append(distribution)
    return {
        name: next((one for one in several if len(several) == 1 or _name(one)), several[0])
        for name, several in found.items()
    }


def _folder_name(distribution: IDistribution) -> str | None:
    """Return the canonical name, from the folder where there is one: hundreds of METADATA files need not be parsed."""
    folder = getattr(getattr(distribution, "_path", None), "name", "")
    stem, dot, suffix = folder.rpartition(".")
    if dot and suffix in ("dist-info", "egg-info"):
        return canonical(stem.partition("-")[0])
    return canonical(_name(distribution)) or None


def _name(distribution: IDistribution) -> str:
    try:
        return _headers(distribution).get("name", [""])[0]
    except Exception:
        return ""


def _headers(distribution: IDistribution) -> dict[str, list[str]]:
    """Read the headers of METADATA, in lower case.

    `Distribution.metadata` parses it as a mail, text and all, which takes a fifth of a listing.
    """
    headers: dict[str, list[str]] = {}
    for line in (distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or "").splitlines():
        if not line:
            break
        key, colon, value = line.partition(":")
        if colon and not key[:1].isspace():
            headers.setdefault(key.lower(), []).append(value.strip())
    return headers


def _entries(distribution: IDistribution) -> Iterator[_Entry]:
    """Read the lines of entry_points.txt in our groups.

    `Distribution.entry_points` gives nothing if one line is malformed; so a line at a time,
    and the malformed one is listed with what is wrong.
    """
    try:
        text = distribution.read_text("entry_points.txt") or ""
    except Exception:
        return
    kind = None
    found: dict[tuple[str, str], str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("[") and line.endswith("]"):
            kind = _KIND_OF.get(line[1:-1].strip())
            continue
        if kind is None or line.startswith(("#", ";")):
            continue
        name, _, value = (part.strip() for part in line.partition("="))
        if found.get((kind, name)) == value:
            continue
        fault = name_fault(name) or value_fault(value)
        if (kind, name) in found:
            fault = f"must be named once by its distribution; got {found[kind, name]} and {value}"
        found[kind, name] = value
        yield _Entry(kind, name, value, fault)


def _records(
    name: str, distribution: IDistribution, entries: list[_Entry], host_version: Callable[[], str | None]
) -> Iterator[Record]:
    state: State = "available"
    reason = version = None
    called, requirements = None, []
    try:
        headers = _headers(distribution)
        called, version = (headers.get(key, [""])[0] for key in ("name", "version"))
        requirements = headers.get("requires-dist", [])
    except Exception as error:
        state, reason = "failed", f"its metadata cannot be read ({reason_of(error)})"
    if state == "available" and not (called and version):
        state, reason = "failed", f"its metadata has no {'Version' if called else 'Name'}"
    elif why := refusal(requirements, host_version):
        state, reason = "incompatible", why
    by_name = {(entry.kind, entry.name): entry for entry in entries}
    for entry in by_name.values():
        if entry.fault is None:
            yield Record(entry.kind, entry.name, called or name, version, entry.value, state, reason)
        else:
            yield Record(entry.kind, entry.name, called or name, version, entry.value, "failed", entry.fault)


def _version_of_host(installed: Mapping[str, IDistribution]) -> str | None:
    try:
        return _headers(installed.get(HOST) or importlib_metadata.distribution(HOST))["version"][0]
    except Exception:  # not installed, or without a version: then nothing can be held against it
        return None
