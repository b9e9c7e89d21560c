"""`lotus-ray list`."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from lotus_ray.cli.options import import_option, json_option

KINDS = ["methods", "models", "datasets", "metrics", "jobs"]


@click.command("list")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("wanted", required=False, metavar="[FILTER]")
@click.option("--check", is_flag=True, help="Run each method on a small problem and count.")
@import_option
@json_option
def command(
    kind: str, wanted: str | None, check: bool, imports: tuple[str, ...], as_json: bool
) -> None:
    """List the names that jobs and reports use: all, or those that hold FILTER (or match vit*16).

    `list models` alone lists families. `list jobs` lists jobs that `lotus-ray grid NAME` runs
    without a checkout.

    `list methods --check` runs each method for a moment. It prints what the method did beside what
    its definition needs.
    """
    if check:
        if kind != "methods":
            raise click.UsageError(
                f"--check is for methods: lotus-ray list methods --check, not {kind}"
            )
        _print_conformance(as_json)
        return
    from lotus_ray.cli.catalogue import CATALOGUE, family_lines, filtered, lines_of, of_plugins
    from lotus_ray.job.plugins.use import use_plugins

    use_plugins(imports)
    items = filtered(CATALOGUE[kind]() + of_plugins(kind), wanted, kind)
    lines = family_lines if kind == "models" and wanted is None else lines_of
    click.echo(json.dumps(items, indent=1) if as_json else "\n".join(lines(items)))


def _print_conformance(as_json: bool) -> None:
    from lotus_ray.bench.conformance import check, to_text

    lines = list(check())
    click.echo(
        json.dumps([asdict(line) for line in lines], indent=1) if as_json else to_text(lines)
    )
    if not all(line.is_met for line in lines):
        raise SystemExit(4)
