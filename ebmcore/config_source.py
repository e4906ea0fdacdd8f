"""The text of a run file and the values set beside it: what they say, and where each key was said."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Self, TypeVar, final

from ebmcore.errors import ConfigError

Key = tuple[str | int, ...]
"""Path of a value: names of tables and keys, and indices of lists."""

V = TypeVar("V")

_HEADER = re.compile(r"\s*(\[\[?)\s*([\w.\-\"' ]+?)\s*\]\]?\s*(?:#.*)?")
_ASSIGNMENT = re.compile(r"\s*([\w.\-\"' ]+?)\s*=")


@final
class Source:
    """A run file as plain data.

    Attributes:
        path: The file.
        data: Its tables, with the overrides applied.
    """

    def __init__(self, path: Path, data: dict[str, Any], lines: dict[Key, int]) -> None:
        self.path = path
        self.data = data
        self._lines = lines
        self._overrides: dict[Key, str] = {}

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file.

        Raises:
            ConfigError: It is missing, a folder, not readable, not UTF-8 or not TOML.
        """
        text = _text(path)
        try:
            return cls(path, tomllib.loads(text), _lines(text))
        except tomllib.TOMLDecodeError as error:
            what, _, position = str(error).rpartition(" (at ")
            place = re.match(r"line (\d+)", position)
            line = int(place[1]) if place else max(1, text.rstrip().count("\n") + 1)
            raise ConfigError(f"{path}:{line}: a run file must be TOML; got an error there: {what}.") from None

    def override(self, text: str) -> None:
        """Lay `TABLE.KEY=VALUE` over the file: VALUE is TOML, else a string.

        Raises:
            ConfigError: There is no `=`, or the key leads through something that is no table.
        """
        left, equals, right = text.partition("=")
        names = [name.strip() for name in left.split(".")]
        if not equals or not all(names):
            raise ConfigError(f"--set must be TABLE.KEY=VALUE; got {text!r}. Write for example --set run.chains=1e6.")
        container: Any = self.data
        keys: Key = ()
        for depth, name in enumerate(names):
            key = _key(container, name, text)
            keys += (key,)
            if depth < len(names) - 1:
                container = _enter(container, key, names[depth + 1])
        value = _value(right)
        if isinstance(container, list) and keys[-1] == len(container):
            container.append(value)
        else:
            container[keys[-1]] = value
        self._lines = _without(self._lines, keys)
        self._overrides = {**_without(self._overrides, keys), keys: f"--set {' '.join(text.split())}"}

    def where(self, key: Key) -> str:
        """Return what a message begins with: the override that set a key, or the file and the line nearest to it."""
        for length in range(len(key), 0, -1):
            if key[:length] in self._overrides:
                return self._overrides[key[:length]]
            if key[:length] in self._lines:
                return f"{self.path}:{self._lines[key[:length]]}"
        return str(self.path)


def _text(path: Path) -> str:
    if path.is_dir():
        inside = path / "run.toml"
        hint = f"Did you mean {inside}?" if inside.is_file() else "Name a file in it."
        raise ConfigError(f"a run file must be a file; got the folder {path}. {hint}")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        near = sorted(other.name for other in path.parent.glob("*.toml"))
        hint = f"There: {', '.join(near)}." if near else "Check the path."
        raise ConfigError(f"a run file must exist; got {path}. {hint}") from None
    except OSError as error:
        raise ConfigError(f"a run file must be readable; got {path} ({error.strerror}). Check the path.") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        got = f"byte 0x{error.object[error.start]:02x}"
        raise ConfigError(f"{path}:{line}: a run file must be UTF-8; got {got}. Save it as UTF-8.") from None


def _lines(text: str) -> dict[Key, int]:
    """Return the line of each table and key; tomllib does not tell.

    A multi-line string that looks like TOML may mislead it: it only helps to find a place.
    """
    lines: dict[Key, int] = {}
    counts: dict[Key, int] = {}
    table: Key = ()
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.fullmatch(line):
            table = ()
            for name in _names(header[2]):
                table += (name,)
                if table in counts:
                    lines.setdefault(table, number)
                    table += (counts[table] - 1,)
            if header[1] == "[[":
                name_only = table[:-1] if table and isinstance(table[-1], int) else table
                counts[name_only] = counts.get(name_only, 0) + 1
                lines.setdefault(name_only, number)
                table = (*name_only, counts[name_only] - 1)
            lines.setdefault(table, number)
        elif assignment := _ASSIGNMENT.match(line):
            lines.setdefault((*table, *_names(assignment[1])), number)
    return lines


def _names(dotted: str) -> list[str]:
    return [name.strip(" \"'") for name in dotted.split(".")]


def _key(container: Any, name: str, text: str) -> str | int:
    """Return `name` as a key of a table or an index of a list; an index equal to the length adds an entry."""
    if isinstance(container, dict):
        return name
    if not isinstance(container, list):
        raise ConfigError(f"--set {text}: the key must lead through tables; got {container!r} before {name!r}.")
    if not name.isdecimal() or int(name) > len(container):
        raise ConfigError(f"--set {text}: the index must be from 0 to {len(container)}; got {name!r}.")
    return int(name)


def _enter(container: Any, key: str | int, following: str) -> Any:
    """Return what lies under `key`, made if it is not there: a list if an index follows."""
    made: Any = [] if following.isdecimal() else {}
    if isinstance(container, dict):
        return container.setdefault(key, made)
    if key == len(container):
        container.append(made)
    return container[key]


def _without(said: dict[Key, V], keys: Key) -> dict[Key, V]:
    """Drop what was said of `keys` and of anything inside: it was replaced."""
    return {key: where for key, where in said.items() if key[: len(keys)] != keys}


def _value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    # A newline in the text could begin another key.
    return parsed["value"] if len(parsed) == 1 else text
