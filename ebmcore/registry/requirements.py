"""Does this host suit a distribution? Decided from its `Requires-Dist`, before anything of it is imported."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

HOST = "ebmcore"

_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


def canonical(name: str) -> str:
    """Return a distribution's canonical name: `Ebmcore_Langevin` is `ebmcore-langevin`."""
    return re.sub(r"[-_.]+", "-", name).strip().lower()


def refusal(requirements: Iterable[str], host_version: Callable[[], str | None]) -> str | None:
    """Return why a distribution with these requirements does not admit the host; None if it does.

    Markers are evaluated without extras; the host's base version is compared, so that a
    pre-release counts as the release that it leads to.

    Args:
        requirements: Lines of `Requires-Dist`.
        host_version: Called only if one of them is about the host; None admits every version.
    """
    for requirement in requirements:
        name = _NAME.match(requirement)
        if name is None or canonical(name[1]) != HOST:
            continue
        version = host_version()
        if version is not None and not (admits := _admits(requirement, version)):
            if admits is None:
                return f"states a requirement that cannot be read: {requirement.strip()[:60]!r}"
            return f"needs {requirement.strip()[:60]}, and this is {HOST} {version}"
    return None


def _admits(requirement: str, host_version: str) -> bool | None:
    # 15 ms that a listing without a stated requirement need not spend.
    from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.version import InvalidVersion, Version

    try:
        base = Version(host_version).base_version
    except InvalidVersion:
        return True
    try:
        wanted = Requirement(requirement)
        applies = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
    except (InvalidRequirement, InvalidVersion, UndefinedComparison, UndefinedEnvironmentName):
        return None
    return not applies or wanted.specifier.contains(base, prereleases=True)
