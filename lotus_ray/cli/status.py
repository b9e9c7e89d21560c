"""`lotus-ray status`."""

from __future__ import annotations

import json
import sys

import click

from lotus_ray.cli.options import json_option


@click.command("status")
@click.argument("store")
@json_option
def command(store: str, as_json: bool) -> None:
    """Show the progress of the last grid of STORE, running or not.

    Exits with 0 if all cells are committed, 75 if some are missing or run, and 4 if some failed.
    """
    from lotus_ray.grid.status_reader import status
    from lotus_ray.store.results import Store

    read = status(Store.open(store))
    click.echo(json.dumps(read.to_plain(), indent=1) if as_json else read.to_text())
    sys.exit(read.exit_code)
