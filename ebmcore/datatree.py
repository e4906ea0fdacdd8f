"""A result under ArviZ's schema, as an xarray DataTree."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ebmcore.errors import InputError

if TYPE_CHECKING:
    import xarray

    from ebmcore.result import Result


def to_datatree(result: Result) -> xarray.DataTree:
    """Return groups `posterior` (variable `x`) and `sample_stats`; see `Result.to_datatree`.

    Raises:
        InputError: xarray is not installed.
    """
    try:
        import xarray
    except ImportError:
        raise InputError(
            "to_datatree must have xarray; got no such package. Install it with: pip install ebmcore[arviz]"
        ) from None
    layout = result.layout
    single = layout.draws == 1
    groups: dict[str, dict[str, xarray.DataArray]] = {"posterior": {}, "sample_stats": {}}
    for name, spec in layout.arrays.items():
        array, dims = result.read(name).numpy(), spec.dims
        if single:
            array, dims = array[:, 0], ("sample", *dims[2:])
        group = "sample_stats" if name.startswith("stats.") else "posterior"
        groups[group][{"draws": "x"}.get(name, name.partition(".")[2])] = xarray.DataArray(array, dims=dims)
    attrs = {
        "created_at": result.provenance["created_at"],
        "creation_library": "ebmcore",
        "creation_library_version": result.provenance["ebmcore"],
        "inference_library": "ebmcore",
        "settings": json.dumps(result.provenance["job"]),
    }
    return xarray.DataTree.from_dict(
        {name: xarray.Dataset(variables, attrs=attrs) for name, variables in groups.items() if variables}
    )
