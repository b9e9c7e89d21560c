"""The output of `lotus-ray grid`: data on stdout, everything else on stderr."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict

import click

from lotus_ray.base.errors import StoreError
from lotus_ray.cli.notes import print_notes
from lotus_ray.cli.price_lines import price_lines
from lotus_ray.cli.terminal import width
from lotus_ray.grid.missing import missing
from lotus_ray.grid.options import Options
from lotus_ray.grid.outcome import Outcome, Stages
from lotus_ray.job.load import LoadedJob
from lotus_ray.job.preview import Preview, preview
from lotus_ray.job.price import price
from lotus_ray.job.schema.resources import Resources
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.report.collect import collect
from lotus_ray.report.entries import Entry
from lotus_ray.report.formats import FORMATS, to_table
from lotus_ray.store.results import Store


def print_dry_run(loaded: LoadedJob, store: Store, options: Options, as_json: bool) -> None:
    """Print one line per cell, how many are missing, and their price. Write nothing.

    Args:
        loaded: the job.
        store: of the rows. It may not exist.
        options: of the command.
        as_json: print one JSON object.
    """
    previewed = preview(loaded, options.limit)
    resources = loaded.job.resources
    work_orders = missing(previewed.planned, store, options, resources)
    rows = store.rows()
    priced = price(previewed, work_orders, rows, resources)
    if as_json:
        costs = {cell_id: asdict(cost) for cell_id, cost in priced.costs.items()}
        cells = [
            cell | costs.get(cell["cell_id"], {}) for cell in previewed.to_json(work_orders, rows)
        ]
        absent = len(previewed.absent_cells)
        content = {"cells": cells, "cells_without_data": absent, "price": priced.to_json()}
        click.echo(json.dumps(content, indent=1))
    else:
        for line in previewed.lines(work_orders, rows):
            click.echo(line)
        click.echo(_summary(previewed, work_orders, resources, store))
        for line in price_lines(priced):
            click.echo(line)
    print_notes([*previewed.planned.notes, *previewed.absent_notes])


def _summary(
    previewed: Preview, work_orders: Sequence[WorkOrder], resources: Resources, store: Store
) -> str:
    left = sum(len(work_order.row_versions) for work_order in work_orders)
    absent = len(previewed.absent_cells)
    return (
        f"{len(previewed.planned.cells) + absent} cells, "
        + (f"{absent} without data, " if absent else "")
        + f"{left} missing in {len(work_orders)} groups; a trial needs "
        f"{resources.workers_text} × {resources.cpus_per_worker} CPUs, "
        f"{resources.gpus_per_worker:g} GPUs; store {store.uri}"
    )


def print_outcome(outcome: Outcome, store: Store, form: str) -> None:
    """Print the report of a grid, write its page, and record how the grid ended.

    Args:
        outcome: of the grid.
        store: of the rows.
        form: a name in FORMATS.
    """
    try:
        _print(outcome, store, form)
    except BaseException:  # a signal, or nobody reads stdout any more: its cells have ended
        with suppress(StoreError):
            outcome.write(store)
        raise


def _print(outcome: Outcome, store: Store, form: str) -> None:
    stages = Stages()
    stages.seconds = outcome.stages
    with stages.measure("report"):
        outcome.origin.add_to(store)
        entries = collect(store, outcome.labels)
        text = to_table(entries, width=width()) if form == "table" else FORMATS[form](entries)
    click.echo(text, nl=False)
    with stages.measure("page"):
        page = _write_page(entries, store)
    parts = [f"{name} {seconds:.1f}" for name, seconds in outcome.stages.items()]
    click.echo("seconds: " + " | ".join(parts), err=True)
    if outcome.packing_line:
        click.echo(outcome.packing_line, err=True)
    outcome.write(store)
    if outcome.error:
        click.echo(f"error: {outcome.error}", err=True)
    click.echo(page, err=True)
    click.echo(outcome.last_line, err=True)


def _write_page(entries: Sequence[Entry], store: Store) -> str:
    """Write the report page to the store; return a line with its address, or why it failed."""
    try:
        from lotus_ray.report.page import PAGE, to_page

        store.replace(PAGE, to_page(entries, store).encode())
    except Exception as error:  # a page that fails must not fail the grid
        return f"warning: the report page could not be written: {type(error).__name__}: {error}"
    return f"page: {store.address(PAGE)}"
