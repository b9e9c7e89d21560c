"""`lotus-ray evaluate`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from lotus_ray.cli.notes import print_notes
from lotus_ray.cli.options import job_options, json_option, store_option
from lotus_ray.cli.signals import stop_on_sigterm


@click.command("evaluate")
@job_options
@click.option("--weights", type=click.Path(path_type=Path), help="A .safetensors or .pth file.")
@click.option("--key", help="The state dict to take, of a file that holds several.")
@click.option(
    "--predictions", type=click.Path(path_type=Path), help="Logits alone: .npz, .parquet or .csv."
)
@click.option("--label", help="The row's name in reports. Default: the file's name.")
@click.option("--seed", type=int, help="Which of the job's seeds, if it has several.")
@click.option("--limit", type=click.IntRange(1), help="At most so many samples of each role.")
@store_option
@json_option
def command(
    job: Path,
    overrides: tuple[str, ...],
    imports: tuple[str, ...],
    weights: Path | None,
    key: str | None,
    predictions: Path | None,
    label: str | None,
    seed: int | None,
    limit: int | None,
    store_uri: str | None,
    as_json: bool,
) -> None:
    """Evaluate weights or predictions of another tool: a row beside those of the grid."""
    from lotus_ray.cli.evaluate_output import print_evaluated
    from lotus_ray.grid.evaluate import evaluate_weights
    from lotus_ray.job.load import load_job

    stop_on_sigterm()
    loaded = load_job(job, overrides, imports)
    print_notes(loaded.notes)
    evaluated = evaluate_weights(
        loaded,
        weights=weights,
        predictions=predictions,
        label=label,
        key=key,
        seed=seed,
        store=store_uri,
        limit=limit,
        say=partial(click.echo, err=True),
    )
    print_evaluated(evaluated, as_json)
