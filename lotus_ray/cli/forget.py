"""`lotus-ray forget`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from lotus_ray.cli.notes import print_notes
from lotus_ray.cli.options import import_option, store_option
from lotus_ray.cli.signals import stop_on_sigterm

_FILE = click.Path(path_type=Path)


@click.command("forget")
@click.argument("job", required=False, type=_FILE)
@click.option(
    "--ids",
    multiple=True,
    type=_FILE,
    help="Ids to forget: one a line, or a csv with a column sample_id. One file a request.",
)
@click.option(
    "--request",
    "request_ids",
    multiple=True,
    help="A name for each file of ids. It is in the record.",
)
@click.option("--received", default="", help="When the request came, UTC. Default: now.")
@click.option("--output", required=True, type=_FILE, help="A new folder.")
@click.option("--method", default="lotus", show_default=True, help="See `list methods`.")
@click.option("--model", help="Without a job: name of the network. See `list models`.")
@click.option("--weights", type=_FILE, help="Without a job: its weights.")
@click.option("--train", help="Without a job: training images, in folders, Parquet or prepared.")
@click.option("--heldout", help="Without a job: images that it never trained on.")
@click.option("--classes", help="Without a job: names for labels that are numbers: cat,dog.")
@click.option(
    "--img-size", type=click.IntRange(1), help="Without a job: side of the images in training."
)
@click.option("--mean", help="Without a job: mean of pixels in [0, 1], such as .5,.5,.5.")
@click.option("--std", help="Without a job: their standard deviation.")
@click.option(
    "--gate",
    "gates",
    multiple=True,
    metavar="NAME={RULE}",
    help="A condition on the result, such as 'retain_accuracy={drop_at_most: .01}'. Repeatable.",
)
@click.option("--after", type=_FILE, help="The folder of the request before: go on from it.")
@click.option(
    "--retrain-at",
    type=float,
    default=0.02,
    show_default=True,
    help="Loss of held-out accuracy, over all requests, above which the record advises to retrain.",
)
@click.option(
    "--commitment-key",
    type=_FILE,
    help="Key that hides the ids in the record. Default: LOTUS_RAY_COMMITMENT_KEY, or a new one.",
)
@click.option(
    "--allow-missing", is_flag=True, help="Go on if some ids belong to no image. Else an error."
)
@store_option
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Change the job.")
@import_option
@click.option("--offline", is_flag=True, help="Download no pretrained weights.")
def command(job: Path | None, overrides: tuple[str, ...], offline: bool, **given: Any) -> None:
    """Answer a deletion request: forget images, measure it, and leave weights and a record.

    Give a JOB, or --model, --weights, --train, --heldout and --ids. The id of TRAIN/cat/1.jpg is
    train/cat/1.jpg. Stop it at any time: the same command finishes it.
    """
    from lotus_ray.grid.forget.run import forget
    from lotus_ray.grid.forget.wish import Wish

    stop_on_sigterm()
    given["store"] = given.pop("store_uri")
    overrides = (*overrides, "offline=true") if offline else overrides
    answer = forget(Wish(job=job, overrides=overrides, **given), lambda line: print_notes([line]))
    if not answer.is_new:
        print_notes(["this request was answered already"])
    for gate in answer.record.gates:
        is_open = gate.value is None or (gate.lowest is None and gate.highest is None)
        value = "" if is_open else f"{gate.value:.3f}, "
        click.echo(f"{gate.status} {gate.gate} {gate.condition}: {value}{gate.why}", err=True)
    click.echo(answer.folder)
    click.echo(answer.record.verdict.sentence)
    if answer.record.outcome == "failed":
        click.echo("a gate FAILED: the weights are kept apart, and must not be used", err=True)
        sys.exit(7)
    click.echo(f"next: lotus-ray audit sign {answer.folder} --key KEY.pem", err=True)
