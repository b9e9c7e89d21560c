"""`lotus-ray prepare`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lotus_ray.cli.notes import print_notes
from lotus_ray.cli.options import import_option, local_option
from lotus_ray.cli.signals import stop_on_sigterm


@click.command("prepare")
@click.argument("source")
@click.argument("destination", type=click.Path(path_type=Path))
@click.option("--root", type=click.Path(path_type=Path), help="The folder of the source's files.")
@click.option(
    "--heldout",
    type=click.FloatRange(0, 1, max_open=True),
    help="Hold out this share of each class of a folder without a split.",
)
@import_option
@local_option
def command(
    source: str,
    destination: Path,
    root: Path | None,
    heldout: float | None,
    imports: tuple[str, ...],
    local: bool,
) -> None:
    """Turn the images of SOURCE into Parquet shards and a manifest in DESTINATION.

    Run it again to resume.
    """
    from lotus_ray.cli.countdown import Countdown
    from lotus_ray.data.prepared.shard_task import run_here
    from lotus_ray.data.prepared.write import prepare
    from lotus_ray.data.sources import SOURCES, SPLITS, find
    from lotus_ray.job.plugins.use import use_plugins

    use_plugins(imports)
    found = find(source)
    if local or source not in SOURCES:  # other processes have no plug-ins
        run = run_here
    else:
        from lotus_ray.cluster.prepare import run_on_cluster as run
    stop_on_sigterm()
    report = Countdown("shards", sys.stderr)
    manifest = prepare(found, destination, root, run, report, heldout)
    print_notes(manifest.notes)
    counts = ", ".join(
        f"{manifest.rows(split)} {split} ({min(of)} to {max(of)} per class)"
        for split in SPLITS
        if (of := manifest.counts[split])
    )
    click.echo(f"{source}: {counts} images in {len(manifest.shards)} shards: {destination}")
