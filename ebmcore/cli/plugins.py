"""`ebmcore plugins`: what is installed, from metadata alone; no plugin is imported."""

from __future__ import annotations

from collections.abc import Sequence

import click

from ebmcore.cli import debug_option

_HEADINGS = ("KIND", "NAME", "STATE", "DISTRIBUTION", "REASON")


@click.group(invoke_without_command=True)
@debug_option
@click.pass_context
def plugins(context: click.Context) -> None:
    """List the plugins that are installed."""
    if context.invoked_subcommand is None:
        context.invoke(list_plugins)


@plugins.command("list")
@debug_option
def list_plugins() -> None:
    """List them: kind, name, state, distribution, and why if one cannot be had."""
    from ebmcore.registry import default

    records = sorted(default().records(), key=lambda record: (record.kind, record.name, record.distribution or ""))
    rows = [
        (
            record.kind,
            record.name,
            record.state,
            f"{record.distribution or '-'} {record.version or ''}".rstrip(),
            record.reason or "",
        )
        for record in records
    ]
    click.echo("\n".join(_columns([_HEADINGS, *rows])))
    if {"sampler", "model", "writer"} <= {record.kind for record in records}:
        click.echo("\nnext: ebmcore run FILE.toml")
    else:
        click.echo("\nnext: pip install ebmcore-langevin ebmcore-models ebmcore-writers")


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
