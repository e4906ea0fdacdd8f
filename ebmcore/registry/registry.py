"""The registry: names -> records -> loaded, validated plugins -> objects."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, final

from ebmcore.errors import PluginError
from ebmcore.registry.blocking import block
from ebmcore.registry.building import Builder
from ebmcore.registry.discovery import Found, chosen, discover, mark_conflicts
from ebmcore.registry.loading import Slot, check, load_reference, load_slot
from ebmcore.registry.records import Built, Loaded, Record
from ebmcore.registry.references import is_direct, name_fault
from ebmcore.registry.requirements import canonical
from ebmcore.registry.tables import KINDS
from ebmcore.registry.wording import Refusal, listed, near, quoted, unknown

if TYPE_CHECKING:
    from importlib_metadata import IDistribution

T = TypeVar("T")


@final
class Registry:
    """Plugins by kind and name. Metadata is read once, at first use; a plugin is imported when it is asked for.

    Args:
        distributions: What to look through; by default all that is installed.
        blocked: NAME, KIND:NAME or a distribution each, never to be imported.
        host_version: What a distribution's requirement on the host is compared with; by default
            the installed host's version, and without one every requirement counts as met.
    """

    def __init__(
        self,
        distributions: Iterable[IDistribution] | None = None,
        blocked: Sequence[str] = (),
        host_version: str | None = None,
    ) -> None:
        self._source = distributions
        self._blocked = tuple(blocked)
        self._host_version = host_version
        self._lock = threading.RLock()
        self._found: Found | None = None
        self._plugins: dict[tuple[str, str], list[Slot]] | None = None
        self._registered: dict[tuple[str, str], Slot] = {}

    def records(self, kind: str | None = None) -> list[Record]:
        """Return what there is, ordered by kind and name, without importing any of it.

        Raises:
            PluginError: There is no such kind, or something blocked is unknown or ambiguous.
        """
        if kind is not None:
            _check_kind(kind)
        with self._lock:
            found = {**self._slots(), **{key: [slot] for key, slot in self._registered.items()}}
            records = [slot.record for slots in found.values() for slot in slots]
        order = {kind: position for position, kind in enumerate(KINDS)}
        return sorted(
            (record for record in records if kind in (None, record.kind)),
            key=lambda record: (order[record.kind], record.name, record.distribution or ""),
        )

    def find(self, kind: str, name: str) -> Record:
        """Return the record that a name, or `name@distribution`, means; import nothing.

        Raises:
            PluginError: No plugin or more than one is meant.
        """
        _check_kind(kind)
        with self._lock:
            return self._slot(kind, name).record

    def load(self, kind: str, use: str, *, base: Path = Path()) -> Loaded:
        """Import and validate a plugin, the first time that it is asked for.

        Args:
            kind: One of `KINDS`.
            use: A name, `name@distribution`, `pkg.module:Attr`, or `FILE.py:Attr`.
            base: Folder that FILE is relative to.

        Raises:
            PluginError: It cannot be had: unknown, in conflict, blocked, incompatible, broken, or
                without what its kind asks for. A later call says the same without a new import.
        """
        _check_kind(kind)
        with self._lock:
            self._slots()  # something wrongly blocked is said whatever is asked for
            if is_direct(use):
                return load_reference(kind, use, base)
            slot = self._slot(kind, use)
            if slot.record.state != "loaded":
                load_slot(slot)
            return Loaded(slot.target, slot.record)

    def register(self, kind: str, name: str) -> Callable[[T], T]:
        """Return a decorator that gives a class or function a name in this process; again replaces.

        A name that an installed plugin has too means the registered one from then on.

        Raises:
            PluginError: There is no such kind, or the name or the object does not suit it.
        """
        _check_kind(kind)

        def decorate(target: T) -> T:
            value = f"{getattr(target, '__module__', '?')}:{getattr(target, '__qualname__', type(target).__qualname__)}"
            record = Record(kind, name, None, None, value, "loaded", source="registered")
            fault = name_fault(name)
            if fault is not None:
                raise PluginError(f"{record.label} {fault}. Choose another name.")
            try:
                check(record, target)
            except Refusal as refusal:
                raise PluginError(f"{record.label} {refusal}.") from None
            with self._lock:
                self._registered[kind, name] = Slot(record, target)
            return target

        return decorate

    def build(
        self,
        kind: str,
        table: Mapping[str, Any],
        *,
        base: Path = Path(),
        subject: str | None = None,
        load_weights: Callable[[Any, Path], Any] | None = None,
    ) -> Built:
        """Load a plugin and make an object of it, and before it of every plugin that its settings name.

        Args:
            kind: One of `KINDS`.
            table: `use`, and beside it the plugin's settings; `name`, the host's word, is to be taken out before.
            base: Folder that direct references and `weights` are relative to.
            subject: What messages call it; by default its kind and name.
            load_weights: Called with a model and the file that its table has as `weights`, at any depth; returns
                the model. Without it `weights` is no setting of any model.

        Raises:
            PluginError: A plugin cannot be had, or fails while it makes the object.
            SettingsError: Settings break their types or bounds; the message names the place, `sampler.step_size`.
            InputError: `load_weights` refuses a file.
        """

        def load_from(kind: str, use: str) -> Loaded:
            return self.load(kind, use, base=base)

        return Builder(load_from, load_weights, base).build(kind, table, subject=subject)

    def _metadata(self) -> Found:
        if self._found is None:
            self._found = discover(self._source, self._host_version)
        return self._found

    def _slots(self) -> dict[tuple[str, str], list[Slot]]:
        if self._plugins is None:
            slots: dict[tuple[str, str], list[Slot]] = {}
            for record in mark_conflicts(block(self._metadata().records, self._blocked)):
                slots.setdefault((record.kind, record.name), []).append(Slot(record))
            self._plugins = slots
        return self._plugins

    def _slot(self, kind: str, use: str) -> Slot:
        name, at, home = use.partition("@")
        slots = self._slots().get((kind, name), [])
        if not at and (kind, name) in self._registered:
            return self._registered[kind, name]
        if not slots:
            names = {kind: {other.name for other in self.records(kind)} for kind in KINDS}
            raise PluginError(unknown(kind, name, names, self._metadata().distributions))
        if at:
            here = [slot for slot in slots if canonical(slot.record.distribution or "") == canonical(home)]
            if not here:
                homes = [slot.record.distribution or "" for slot in slots]
                raise PluginError(
                    f"{kind} {quoted(name)} must come from a distribution that gives it; got {quoted(home)}. "
                    f"Distributions: {listed(homes)}."
                )
            return here[0]
        candidates = [slot for slot in slots if slot.record.state != "blocked"] or slots
        if len(candidates) > 1 and candidates[0].record.state != "blocked":
            given = ", ".join(sorted(f"{slot.record.distribution} {slot.record.version}" for slot in candidates))
            ways = " or ".join(sorted(chosen(slot.record) for slot in candidates))
            raise PluginError(f"{kind} {name!r} must come from one distribution; got it from {given}. Write {ways}.")
        return candidates[0]


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        close = near(str(kind), KINDS)
        hint = f" Did you mean '{close}'?" if close else ""
        raise PluginError(f"a plugin's kind must be one of {', '.join(KINDS)}; got {quoted(kind)}.{hint}")
