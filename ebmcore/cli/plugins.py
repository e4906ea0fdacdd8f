"""`ebmcore plugins`: what is installed, from metadata alone; and what one of them is, which loads that one."""

from __future__ import annotations

from collections.abc import Sequence

import click

from ebmcore.cli import common_options

_HEADINGS = ("KIND", "NAME", "STATE", "DISTRIBUTION", "REASON")


@click.group(invoke_without_command=True)
@common_options
@click.pass_context
def plugins(context: click.Context) -> None:
    """List the plugins that are installed."""
    if context.invoked_subcommand is None:
        context.invoke(list_plugins)


@plugins.command("list")
@common_options
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
    click.echo("\n".join(columns([_HEADINGS, *rows])))
    if {"sampler", "model", "writer"} <= {record.kind for record in records}:
        click.echo("\nnext: ebmcore run FILE.toml")
    else:
        click.echo("\nnext: pip install ebmcore-langevin ebmcore-models ebmcore-writers")


@plugins.command("show")
@click.argument("name")
@click.option("--kind", help="Look at this kind alone, such as sampler.")
@common_options
def show_plugin(name: str, kind: str | None) -> None:
    """Load NAME and show its settings, where it comes from, and how a run file names it.

    NAME may be KIND:NAME, NAME@DISTRIBUTION, or a direct reference such as ./file.py:Name. Of a plugin that
    fails to load, the traceback is shown.
    """
    from ebmcore.cli.plugins_show import shown
    from ebmcore.registry import default
    from ebmcore.registry.finding import find

    found = find(default(), name, kind)
    click.echo("\n\n".join(shown(plugin, default()) for plugin in found))
    usable = any(plugin.target is not None for plugin in found)
    click.echo(f"\nnext: ebmcore {'plan FILE.toml' if usable else 'plugins list'}")


@plugins.command("check")
@click.argument("name")
@click.option("--kind", help="Check this kind alone, such as sampler.")
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Value of a setting; may be repeated.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the checks.")
@common_options
def check_plugin(name: str, kind: str | None, overrides: tuple[str, ...], seed: int) -> None:
    """Hold NAME to the rules of its kind, and say which checks passed, failed or were skipped.

    NAME may be KIND:NAME, NAME@DISTRIBUTION, or a direct reference such as ./file.py:Name. Settings that are not
    given by --set are the first that their types and bounds allow. The exit code is 1 if a check failed.
    """
    from ebmcore.cli.plugins_check import checked
    from ebmcore.registry import default

    if not checked(default(), name, kind, overrides, seed):
        click.get_current_context().exit(1)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines, with their cells in aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
