"""`lotus-ray list`."""

from __future__ import annotations

import json

import click

from lotus_ray.cli.options import json_option


@click.command("list")
@click.argument("kind", type=click.Choice(["methods", "models", "datasets", "metrics"]))
@json_option
def command(kind: str, as_json: bool) -> None:
    """List the names that jobs and reports use."""
    from lotus_ray.cli.catalogue import CATALOGUE

    items = CATALOGUE[kind]()
    width = max(len(item["name"]) for item in items)
    lines = [f"{item['name']:{width}}  {item['about']}".rstrip() for item in items]
    click.echo(json.dumps(items, indent=1) if as_json else "\n".join(lines))
