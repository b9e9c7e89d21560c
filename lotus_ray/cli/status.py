"""`lotus-ray status`."""

from __future__ import annotations

import json

import click

from lotus_ray.cli.options import json_option


@click.command("status")
@click.argument("store")
@json_option
def command(store: str, as_json: bool) -> None:
    """Show the progress of the last grid of STORE, running or not."""
    from lotus_ray.grid.status_reader import status
    from lotus_ray.store.results import Store

    read = status(Store.open(store))
    click.echo(json.dumps(read.to_plain(), indent=1) if as_json else read.to_text())
