"""`lotus-ray export`."""

from __future__ import annotations

import os

import click


@click.command("export")
@click.argument("store")
@click.option(
    "--to",
    "tracker",
    required=True,
    type=click.Choice(["mlflow", "tensorboard"]),
    help="The tracker.",
)
@click.option(
    "--uri",
    metavar="URI",
    help="For MLflow: sqlite:///runs.db, http://host:5000. Default: MLFLOW_TRACKING_URI.",
)
@click.option("--output", metavar="FOLDER", help="For TensorBoard: its log folder.")
def command(store: str, tracker: str, uri: str | None, output: str | None) -> None:
    """Show the rows of STORE in MLflow or TensorBoard, one run per cell.

    Run it again to update the runs.
    """
    from lotus_ray.report.export import TRACKERS
    from lotus_ray.report.export.runs import runs_of
    from lotus_ray.store.results import Store

    address = _tracker_address(tracker, uri, output)
    opened = Store.open(store)
    opened.check_exists()
    click.echo(TRACKERS[tracker](runs_of(opened), address))


def _tracker_address(tracker: str, uri: str | None, output: str | None) -> str:
    """Return the destination of the runs. Raise UsageError for an option of the other tracker."""
    given = {"--uri": uri, "--output": output}
    needed, other = ("--uri", "--output") if tracker == "mlflow" else ("--output", "--uri")
    if given[other] is not None:
        raise click.UsageError(f"--to {tracker} takes {needed}, not {other}")
    default = os.environ.get("MLFLOW_TRACKING_URI") if tracker == "mlflow" else None
    address = given[needed] or default
    if not address:
        example = "sqlite:///runs.db" if tracker == "mlflow" else "FOLDER"
        raise click.UsageError(f"--to {tracker} needs {needed} {example}")
    return address
