"""One line for what pydantic found in a run file: place, key, rule, value, and the near key."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from ebmcore.config_source import Key, Source

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_RULES = {
    "finite_number": "finite",
    "float_type": "a number",
    "greater_than": "> {gt:g}",
    "greater_than_equal": ">= {ge}",
    "int_type": "an integer",
    "less_than": "< {lt}",
    "list_type": "a list",
    "literal_error": "{expected}",
    "model_type": "a table",
    "string_too_short": "longer than nothing",
    "string_type": "a string",
}
"""What a value must be, by pydantic's name of the error."""


def explain(error: ValidationError, model: type[BaseModel], source: Source) -> str:
    """Return one line on the problem to mend first: an unknown key (it may be the one that is missing), else the first.

    Args:
        error: What the validation of `source.data` raised.
        model: The class that it was validated against.
        source: The run file.
    """
    found = error.errors(include_url=False)
    unknown = [detail for detail in found if detail["type"] == "extra_forbidden"]
    if unknown:
        return _unknown(tuple(unknown[0]["loc"]), model, source)
    key = _key(found[0], source.data)
    if found[0]["type"] == "missing":
        return _missing(key, source)
    return _wrong(key, [detail for detail in found if _key(detail, source.data)[: len(key)] == key], source)


def _key(detail: ErrorDetails, data: Any) -> Key:
    """Return where a problem is, without the steps by which pydantic names the branch of a union."""
    key: Key = ()
    last = len(detail["loc"]) - 1
    for depth, part in enumerate(detail["loc"]):
        if (isinstance(data, dict) and part in data) or (isinstance(data, list) and isinstance(part, int)):
            inner: Any = data
            data = inner[part]
            key += (part,)
        elif depth == last and detail["type"] == "missing":
            key += (part,)
    return key


def _unknown(key: Key, model: type[BaseModel], source: Source) -> str:
    table: Any = model.model_fields[str(key[0])].annotation if len(key) > 1 else model
    known = list(table.model_fields)
    near = get_close_matches(str(key[-1]), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    if len(key) == 1:
        return f"{source.where(key)}: a run file has no table named {key[0]!r}.{hint} Tables: {', '.join(known)}."
    return f"{source.where(key)}: [{key[0]}] has no key named {key[-1]!r}.{hint} Keys: {', '.join(known)}."


def _missing(key: Key, source: Source) -> str:
    if len(key) == 1:
        have = f"only {', '.join(f'[{name}]' for name in source.data)}" if source.data else "an empty file"
        return f"{source.path}: a run file must have [{key[0]}]; got {have}. Add a table [{key[0]}]."
    table: Any = source.data
    for part in key[:-1]:
        table = table[part]
    near = get_close_matches(str(key[-1]), list(table), n=1)
    if near:
        fix = f"Is {near[0]!r} a misspelling of it?"
    elif key[-1] == "use":
        fix = "Name a plugin: see `ebmcore plugins`."
    else:
        fix = f"Add {key[-1]} = ... to [{key[0]}]."
    return f"{source.where(key)}: `{_dotted(key)}` must be given; got nothing. {fix}"


def _wrong(key: Key, details: list[ErrorDetails], source: Source) -> str:
    """Join the rules of a union's branches, or keep those of the branch that came furthest into the value."""
    deepest = max(len(_key(detail, source.data)) for detail in details)
    details = [detail for detail in details if len(_key(detail, source.data)) == deepest]
    key = _key(details[0], source.data)
    if details[0]["type"] == "missing":
        return _missing(key, source)
    value: Any = source.data
    for part in key:
        value = value[part]
    rules = list(dict.fromkeys(_rule(detail) for detail in details))
    fix = ""
    if len(key) == 1:
        fix = f" Write [[{key[0]}]]." if details[0]["type"] == "list_type" else f" Write [{key[0]}]."
    return f"{source.where(key)}: `{_dotted(key)}` must be {' or '.join(rules)}; got {_shown(value)}.{fix}"


def _rule(detail: ErrorDetails) -> str:
    rule = _RULES.get(detail["type"])
    return detail["msg"] if rule is None else rule.format(**detail.get("ctx", {}))


def _dotted(key: Key) -> str:
    return ".".join(str(part) for part in key)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return "a list of tables"
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
