"""`lotus-ray validate`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from lotus_ray.cli.notes import print_notes
from lotus_ray.cli.options import job_options


def _print_schema(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted:
        from lotus_ray.job.schema.job import Job

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
@click.option("--memory", is_flag=True, help="Estimate the memory of steps on CPUs too.")
def command(job: Path, overrides: tuple[str, ...], imports: tuple[str, ...], memory: bool) -> None:
    """Check a job as far as possible without running it."""
    from lotus_ray.job.job_fit import fit_lines
    from lotus_ray.job.load import load_job
    from lotus_ray.job.preview import preview
    from lotus_ray.unlearning.methods import registered_name

    loaded = load_job(job, overrides, imports)
    print_notes(loaded.notes)
    previewed = preview(loaded)
    resources = loaded.job.resources
    estimated = memory or resources.gpus_per_worker > 0 or resources.micro_batch != "auto"
    lines = list(fit_lines(loaded)) if estimated else []
    cells = len(previewed.planned.cells) + len(previewed.absent_cells)
    click.echo(f"{job}: valid, {cells} cells")
    names = [each if isinstance(each, str) else each["name"] for each in loaded.job.grid.methods]
    if "original" not in map(registered_name, names):
        print_notes(["the original is counted too: every method starts from it"])
    for line in lines:
        click.echo(line)
    print_notes(previewed.planned.notes)
    for note in previewed.absent_notes:
        click.echo(f"not checked: {note}", err=True)
