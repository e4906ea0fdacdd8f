"""Whether what an energy holds is what it held, object by object: a pass of identity checks that costs microseconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from operator import is_
from types import CellType, FunctionType
from typing import Any

MISSING = object()


class Watch:
    """Remembers containers, closures, functions and classes as they are now."""

    def __init__(self) -> None:
        self._mappings: dict[int, Mapping[Any, Any]] = {}
        self._before: dict[int, dict[Any, Any]] = {}
        self._lists: list[tuple[list[Any], list[Any]]] = []
        self._cells: list[tuple[CellType, Any]] = []
        self._names: dict[tuple[int, str], tuple[dict[str, Any], str, Any]] = {}
        self._functions: list[tuple[FunctionType, Any, Any, Any]] = []
        self._objects: list[Any] = []
        self._fast: tuple[Any, ...] | None = None

    def mapping(self, found: Mapping[Any, Any]) -> None:
        """Watch the keys and values of a dict, or of a class."""
        if id(found) not in self._mappings:
            self._mappings[id(found)] = found
            self._before[id(found)] = dict(found)

    def list(self, found: list[Any]) -> None:
        """Watch the items of a list."""
        self._lists.append((found, found.copy()))

    def cell(self, found: CellType) -> None:
        """Watch what a name of an enclosing function is bound to."""
        self._cells.append((found, found.cell_contents))

    def name(self, found: dict[str, Any], name: str) -> None:
        """Watch what a global name is bound to, if it is."""
        self._names[id(found), name] = found, name, found.get(name, MISSING)

    def function(self, found: FunctionType) -> None:
        """Watch a function's code and defaults."""
        self._functions.append((found, found.__code__, found.__defaults__, found.__kwdefaults__))

    def kind(self, found: object) -> None:
        """Watch an object's class."""
        self._objects.append(found)

    def freeze(self) -> None:
        """Make ready for `same`."""
        full = [(m, self._before[i]) for i, m in self._mappings.items() if self._before[i]]
        self._fast = (
            [m for i, m in self._mappings.items() if not self._before[i]],
            [m for m, _ in full],
            [m.values for m, _ in full],
            [len(before) for _, before in full],
            [key for _, before in full for key in before],
            [value for _, before in full for value in before.values()],
            [type(found) for found in self._objects],
        )

    def same(self) -> bool:
        """Return whether all is as it was: the same objects at the same places."""
        if self._fast is None:
            self.freeze()
            return self.same()
        empty, full, values, lengths, keys, before, kinds = self._fast
        return (
            not any(empty)
            and list(map(len, full)) == lengths
            and all(map(is_, chain.from_iterable(_called(values)), before))
            and all(map(is_, chain.from_iterable(full), keys))
            and all(map(is_, map(type, self._objects), kinds))
            and all(cell.cell_contents is value for cell, value in self._cells)
            and all(found.get(name, MISSING) is value for found, name, value in self._names.values())
            and all(len(a) == len(b) and all(map(is_, a, b)) for a, b in self._lists)
            and all(
                f.__code__ is code and f.__defaults__ is defaults and f.__kwdefaults__ is keywords
                for f, code, defaults, keywords in self._functions
            )
        )

    def restore(self) -> None:
        """Put back what a trial call changed in dicts, lists and closures."""
        for i, found in self._mappings.items():
            before = self._before[i]
            if isinstance(found, dict) and (len(found) != len(before) or not all(map(is_, found.values(), before.values()))):
                found.clear()
                found.update(before)
        for items, values in self._lists:
            items[:] = values
        for cell, value in self._cells:
            if cell.cell_contents is not value:
                cell.cell_contents = value


def _called(functions: list[Any]) -> Iterable[Any]:
    return (function() for function in functions)
