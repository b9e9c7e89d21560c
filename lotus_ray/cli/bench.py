"""`lotus-ray bench`."""

from __future__ import annotations

import json

import click

from lotus_ray.cli.options import json_option
from lotus_ray.cli.signals import stop_on_sigterm


@click.command("bench")
@click.argument("what", type=click.Choice(["data", "compute"]))
@click.option("--images", type=click.IntRange(64), default=2048, help="For data: number of images.")
@click.option("--repeats", type=click.IntRange(1), default=5, help="Of each measurement.")
@click.option("--methods", default="", metavar="A,B", help="For compute: only these methods.")
@json_option
def command(what: str, images: int, repeats: int, methods: str, as_json: bool) -> None:
    """Compare the data path with a DataLoader, or compute with its floor (twelve minutes)."""
    from lotus_ray.bench import scoreboard

    stop_on_sigterm()
    if what == "data":
        from lotus_ray.bench import data

        measured = data.measure(images, repeats)
    else:
        from lotus_ray.bench import compute

        names = [name for name in methods.split(",") if name]
        measured = compute.measure(repeats, names, lambda line: click.echo(f"{line} …", err=True))
    if as_json:
        click.echo(scoreboard.old_keys_note(measured), err=True)
        click.echo(json.dumps(scoreboard.to_json(measured), indent=1))
    else:
        click.echo(scoreboard.to_table(measured), nl=False)
