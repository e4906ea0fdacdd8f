"""`ebmcore schema`: the JSON schema of a run file, for editors that complete and check TOML."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ebmcore.cli import common_options


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="Write it to this file; it is printed if left out.")
@common_options
def schema(out: Path | None) -> None:
    """Print the JSON schema of a run file with the plugins that are installed.

    It loads every one of them, since their settings are in their classes; one that fails is left out with a warning.
    An editor with Taplo (Even Better TOML) reads it where a run file begins with `#:schema FILE`.
    """
    from ebmcore.config_schema import run_file_schema
    from ebmcore.errors import InputError
    from ebmcore.registry import default

    found, problems = run_file_schema(default())
    for problem in problems:
        click.echo(f"warning: left out: {problem}", err=True)
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"`--out` must be a file that can be written; got '{out}' ({error.strerror}). Choose another place."
        ) from None
    click.echo(f"{out}\nnext: begin a run file beside it with the line    #:schema ./{out.name}")
