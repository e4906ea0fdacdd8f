"""A record -> its plugin in memory, validated; and whatever goes wrong -> one line, a state and a traceback."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ebmcore.errors import PluginError
from ebmcore.registry.blocking import WHERE
from ebmcore.registry.records import Loaded, Record
from ebmcore.registry.references import file_of, load_direct, load_value
from ebmcore.registry.wording import Refusal, reason_of


@dataclass
class Slot:
    """A record and, once it is loaded, its target; or, once that failed, the message to repeat."""

    record: Record
    target: Any = None
    error: str | None = None


def load_slot(slot: Slot) -> None:
    """Import and validate an entry point's plugin; put what came of it into the slot.

    Raises:
        PluginError: It cannot be had, or could not be before.
    """
    record = slot.record
    if slot.error is None:
        slot.error = _unavailable(record)
    if slot.error is not None:
        raise PluginError(slot.error)
    try:
        # What a plugin prints is no part of a command's output, which another program may read.
        with redirect_stdout(sys.stderr):
            target = load_value(record.value)
        check(record, target)
    except KeyboardInterrupt:
        raise
    except Refusal as refusal:
        slot.error = f"{record.label} {refusal}."
        slot.record = replace(record, state="failed", reason=str(refusal))
        raise PluginError(slot.error) from None
    except BaseException as error:  # a plugin may raise anything, SystemExit too
        reason = reason_of(error)
        slot.error = f"{record.label} failed to load: {reason}. {_see(record)}"
        slot.record = replace(record, state="failed", reason=reason, traceback=traceback_of(error))
        raise PluginError(slot.error) from error
    slot.target, slot.record = target, replace(record, state="loaded", reason=None)


def _unavailable(record: Record) -> str | None:
    """Return the message for a plugin that its metadata alone rules out."""
    if record.state == "blocked":
        return f"{record.label} is {record.reason}. Take that out of {WHERE} to use it."
    if record.state == "incompatible":
        return f"{record.label} {record.reason}. Install versions that go together."
    if record.state == "failed":
        if str(record.reason).startswith("must "):
            return f"{record.label} {record.reason}."
        return f"{record.label} failed to load: {record.reason}. {_see(record)}"
    return None


def _see(record: Record) -> str:
    return f"See: ebmcore plugins show {record.name}"


def load_reference(kind: str, use: str, base: Path) -> Loaded:
    """Load and validate the plugin of a direct reference.

    Raises:
        PluginError: It cannot be had; a file may have been mended by the next call.
    """
    record = Record(kind, use, None, None, use, "loaded", source="direct")
    try:
        target, digest = load_direct(use, base)
        check(record, target)
    except KeyboardInterrupt:
        raise
    except Refusal as refusal:
        raise PluginError(f"{record.label} {refusal}.") from None
    except BaseException as error:  # as for a plugin
        place = _line_in(error, file_of(use, base))
        raise PluginError(f"{record.label} failed to load: {reason_of(error)}{place}.") from error
    return Loaded(target, record, digest)


def check(record: Record, target: Any) -> None:
    """Check a target's structure and that its settings can be read.

    Raises:
        Refusal: It breaks a rule of its kind.
    """
    from ebmcore import settings
    from ebmcore.registry.validation import validate

    validate(record.kind, target)
    try:
        settings.settings_model(target, subject=record.label)
    except PluginError as error:
        raise Refusal(str(error).removeprefix(f"{record.label} ").removesuffix(".")) from None


def _line_in(error: BaseException, file: Path | None) -> str:
    """Say which line of a user's file an error comes from."""
    import traceback

    if file is None:
        return ""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f" ({file.name}, line {error.lineno})"
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == str(file)]
    return f" ({file.name}, line {lines[-1]})" if lines else ""


def traceback_of(error: BaseException) -> str:
    """Return an exception's traceback as Python prints it."""
    import traceback

    return "".join(traceback.format_exception(error))
