"""Where in a run file a mistake stands that was found without the file: when its run was prepared."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ebmcore.config_source import Key, Source
from ebmcore.errors import InputError

_SUBJECT = re.compile(r"`([\w\-.\[\]]+)`")
"""What a message is about, in backticks before all else: `step_size`, `inner.step_size`, `mean[2]`."""


def located(error: InputError, tables: Mapping[str, str], source: Source) -> str:
    """Return an error's message, after the file and line that it is about if it is about something in the file.

    Args:
        error: What was raised; its `key` and the subject of its message say what it is about.
        tables: The table that holds an argument of `ebmcore.sample`, by the argument's name.
        source: The run file.
    """
    message = str(error)
    found = _SUBJECT.match(message)
    words = re.findall(r"[\w\-]+", found[1]) if found else []
    subject: Key = tuple(int(word) if word.isdecimal() else word for word in words)
    if error.key:
        # What is about a plugin and none of its settings is about the line that names it.
        key = _as_written((*error.key, *(subject or ("use",))), source)
    elif subject and subject[0] in tables:
        key = (tables[str(subject[0])], *subject)
    else:
        return message
    return f"{source.where(key)}: {message}"


def _as_written(key: Key, source: Source) -> Key:
    """Return the key in a file without stages of what a run of one stage calls `stage 0`."""
    if key[0] != "stage" or "stage" in source.data:
        return key
    return key[2:] if key[2:3] == ("sampler",) else ("run", *key[2:])
