"""`lotus-ray unlearn`."""

from __future__ import annotations

from pathlib import Path

import click

from lotus_ray.cli.notes import print_notes
from lotus_ray.cli.options import job_options, local_option, store_option
from lotus_ray.cli.signals import stop_on_sigterm


@click.command("unlearn")
@job_options
@click.option("--method", required=True, help="See `lotus-ray list methods`.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="A new folder.")
@store_option
@local_option
def command(
    job: Path,
    overrides: tuple[str, ...],
    imports: tuple[str, ...],
    method: str,
    output: Path,
    store_uri: str | None,
    local: bool,
) -> None:
    """Unlearn with one method. Write the weights and a run card to the output folder."""
    from lotus_ray.grid.options import Options
    from lotus_ray.grid.single_cell import CARD, load_one, unlearn_to
    from lotus_ray.store.results import Store

    stop_on_sigterm()
    loaded = load_one(job, method, overrides, imports)
    print_notes(loaded.notes)
    store = Store.open(store_uri or loaded.job.store)
    unlearn_to(loaded, store, output, Options(local=local))
    click.echo(output / CARD)
