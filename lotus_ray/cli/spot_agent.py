"""`lotus-ray spot-agent`."""

from __future__ import annotations

from functools import partial

import click


@click.command("spot-agent")
@click.option("--provider", type=click.Choice(["aws", "gcp"]), required=True, help="The cloud.")
@click.option("--metadata-url", metavar="URL", help="Its metadata service, if not the usual one.")
@click.option("--address", default="auto", help="HOST:PORT of Ray; default: the one on this node.")
@click.option("--node-address", default="", metavar="IP", help="Of this node in Ray.")
def command(provider: str, metadata_url: str | None, address: str, node_address: str) -> None:
    """Drain this Ray node once the cloud says that it takes the machine away.

    Cells here then write a checkpoint at once. The cluster files start it on each spot machine.
    """
    import logging

    from lotus_ray.cluster.spot_notice import PROVIDERS, drain_on_notice, drain_this_machine

    logging.basicConfig(format="%(asctime)s  %(message)s")
    asked = PROVIDERS[provider]()
    asked.url = (metadata_url or asked.url).rstrip("/")
    drain_on_notice(asked, partial(drain_this_machine, address, node_address))
    click.echo("drained", err=True)
