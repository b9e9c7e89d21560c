"""`lotus-ray grid`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lotus_ray.base.version import VERSION
from lotus_ray.cli.notes import print_notes
from lotus_ray.cli.options import job_options, json_option, local_option, store_option
from lotus_ray.cli.signals import stop_on_sigterm


@click.command("grid")
@job_options
@store_option
@click.option("--dry-run", is_flag=True, help="List the cells and their price, and run none.")
@click.option(
    "--limit", type=click.IntRange(1), help="Smoke test: use at most so many samples of each role."
)
@click.option("--retry-failed", is_flag=True, help="Run failed cells again.")
@click.option("--force", is_flag=True, help="Run every cell again.")
@local_option
@click.option(
    "--max-bad-images", type=click.IntRange(0), help="Leave out up to so many undecodable images."
)
@json_option
def command(
    job: Path,
    overrides: tuple[str, ...],
    imports: tuple[str, ...],
    store_uri: str | None,
    dry_run: bool,
    max_bad_images: int | None,
    as_json: bool,
    limit: int | None,
    retry_failed: bool,
    force: bool,
    local: bool,
) -> None:
    """Run every missing cell of a job, then print its table. Run it again to resume.

    JOB is a file, or a name of `lotus-ray list jobs`.
    """
    click.echo(f"lotus-ray {VERSION}: {job}", err=True)  # imports take seconds
    from lotus_ray.cli.grid_output import print_dry_run, print_outcome
    from lotus_ray.grid.options import Options
    from lotus_ray.grid.run import run_grid
    from lotus_ray.job.load import load_job
    from lotus_ray.store.results import Store

    stop_on_sigterm()
    if max_bad_images is not None:
        overrides = (*overrides, f"resources.max_bad_images={max_bad_images}")
    loaded = load_job(job, overrides, imports)
    print_notes(loaded.notes)
    store = Store.open(store_uri or loaded.job.store)
    options = Options(local, limit, retry_failed, force)
    if dry_run:
        return print_dry_run(loaded, store, options, as_json)
    outcome = run_grid(loaded, store, options)
    print_outcome(outcome, store, "json" if as_json else "table")
    sys.exit(outcome.exit_code)
