"""The output of `lotus-ray evaluate`: the row's table or its JSON on stdout, the rest on stderr."""

from __future__ import annotations

import json

import click

from lotus_ray.grid.evaluate import Evaluated
from lotus_ray.report.collect import collect
from lotus_ray.report.formats import FORMATS


def print_evaluated(evaluated: Evaluated, as_json: bool) -> None:
    """Print the row, as JSON or in the table that it belongs to."""
    row, store = evaluated.row, evaluated.store
    if as_json:
        about = {"cell_id": row.cell_id, "is_new": evaluated.is_new, "store": store.uri}
        click.echo(json.dumps({**about, **row.to_json()}, indent=1))
    else:
        found = collect(store)
        own = next(each for each in found if row.cell_id in (r.cell_id for r in each.rows.values()))
        table = (own.benchmark, own.model, own.setting)
        entries = [each for each in found if (each.benchmark, each.model, each.setting) == table]
        click.echo(FORMATS["table"](entries), nl=False)
    done = "a new row" if evaluated.is_new else "its row was there already, and nothing was done"
    click.echo(f"{row.method}: {done}: cell {row.cell_id} of {store.uri}", err=True)
