"""`lotus-ray validate`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from lotus_ray.cli.options import job_options


def _print_schema(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted:
        from lotus_ray.job.schema import Job

        click.echo(json.dumps(Job.model_json_schema(), indent=1))
        ctx.exit()


@click.command("validate")
@job_options
@click.option(
    "--schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_schema,
    help="Print the JSON Schema of job files instead.",
)
def command(job: Path, overrides: tuple[str, ...]) -> None:
    """Check all of a job that can be known without running it."""
    from lotus_ray.job.load import load_job
    from lotus_ray.job.preview import absent_notes, preview

    previewed = preview(load_job(job, overrides))
    cells = len(previewed.planned.cells) + len(previewed.absent_cells)
    click.echo(f"{job}: valid, {cells} cells")
    for note in previewed.planned.notes:
        click.echo(f"note: {note}", err=True)
    for note in absent_notes(previewed):
        click.echo(f"not checked: {note}", err=True)
