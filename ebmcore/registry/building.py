"""`use` tables -> objects: the one that was asked for, and those that its settings ask for, to any depth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from ebmcore.errors import PluginError, SettingsError
from ebmcore.registry.records import Built, Loaded, Record
from ebmcore.registry.validation import validate_object
from ebmcore.registry.wording import Refusal, a, quoted, within

if TYPE_CHECKING:
    from ebmcore.settings_nested import Part


@final
@dataclass(frozen=True)
class Builder:
    """Makes objects of tables.

    Attributes:
        load: Returns the plugin that a kind and the value of `use` mean.
        load_weights: Loads the file of a model's `weights`; without it `weights` is no word of the host's.
        base: Folder that `weights` are relative to.
    """

    load: Callable[[str, str], Loaded]
    load_weights: Callable[[Any, Path], Any] | None
    base: Path

    def build(self, kind: str, table: Mapping[str, Any], *, subject: str | None = None, depth: int = 0) -> Built:
        """Load a plugin and make an object of it, after those in its settings.

        Args:
            kind: The kind of plugin.
            table: `use`, and beside it the plugin's settings.
            subject: What messages call it; by default its kind and name.
            depth: How many plugins it stands inside of.

        Raises:
            PluginError: A plugin cannot be had, or fails while it makes the object.
            SettingsError: Settings break their types or bounds; the message names the place, `sampler.step_size`.
            InputError: The weights of a model cannot be loaded.
        """
        use = table.get("use")
        if not isinstance(use, str) or not use:
            raise PluginError(
                f'{subject or a(kind)} must be named by `use`; got {quoted(use)}. Add it, such as use = "NAME".'
            )
        loaded = self.load(kind, use)
        from ebmcore.settings import construct
        from ebmcore.settings_plain import plain

        subject = subject or f"{kind} {quoted(use)}"
        weights = table.get("weights") if kind == "model" and self.load_weights is not None else None
        given = {key: value for key, value in table.items() if key != "use" and (key != "weights" or weights is None)}
        inner: dict[str, Built] = {}
        tables: dict[str, Mapping[str, Any]] = {}

        def make(part: Part, path: str) -> Any:
            with within(path):
                inner[path], tables[path] = self._inner(part, depth + 1)
            return inner[path].object

        made = construct(loaded.target, given, subject=subject, make=make)
        _check_made(kind, made, subject)
        if weights is not None:
            made = self._with_weights(made, weights)
        settings = plain(loaded.target, given, subject=subject, written=lambda _, path: tables[path])
        nested = tuple(each for one in inner.values() for each in ((one.record, one.digest), *one.nested))
        return Built(made, loaded.record, loaded.digest, settings, nested)

    def _inner(self, part: Part, depth: int) -> tuple[Built, Mapping[str, Any]]:
        """Return what a setting asks for, and its table with all settings."""
        from ebmcore.settings_nested import DEPTH
        from ebmcore.settings_objects import called, check_object, too_deep

        if not isinstance(part.value, str | Mapping):
            check_object(part.kind, part.value, subject=called(part), depth=depth)
            record = _record_of(part)
            return Built(part.value, record, None, {}), {"of": record.value.replace(":", ".")}
        if depth > DEPTH:
            raise SettingsError(too_deep(a(part.kind)))
        table = {"use": part.value} if isinstance(part.value, str) else part.value
        built = self.build(part.kind, table, depth=depth)
        words = {word: table[word] for word in ("use", "weights") if word in table}
        return built, {**words, **built.settings}

    def _with_weights(self, made: Any, weights: Any) -> Any:
        assert self.load_weights is not None
        if not isinstance(weights, str | Path):
            raise SettingsError(f"`weights` must be the path of a file; got {quoted(weights)}. Write it in quotes.")
        return self.load_weights(made, self.base / weights)


def _check_made(kind: str, made: Any, subject: str) -> None:
    if kind not in ("model", "schedule"):
        return
    try:
        validate_object(kind, made)
    except Refusal as refusal:
        raise PluginError(f"{subject} {str(refusal).replace('must be', 'must return', 1)}.") from None


def _record_of(part: Part) -> Record:
    """Return the record of an object that was made in Python: of what, and not where it may be had."""
    kind = part.value if hasattr(part.value, "__qualname__") else type(part.value)
    return Record(
        part.kind, kind.__qualname__, None, None, f"{kind.__module__}:{kind.__qualname__}", "loaded", source="live"
    )
