"""`lotus-ray audit`: look at, sign and verify the record of a deletion request."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lotus_ray.cli.notes import print_notes

_folder = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group("audit")
def command() -> None:
    """Show, sign, verify or purge the record of a deletion request."""


@command.command("show")
@_folder
@click.option("--html", type=_FILE, help="Write the page to a file. A browser makes a PDF of it.")
def show(folder: Path, html: Path | None) -> None:
    """Print the record in DIR in plain words. This verifies nothing."""
    from lotus_ray.audit.folder import PAGE, read_record
    from lotus_ray.audit.page import to_page
    from lotus_ray.audit.words import text
    from lotus_ray.base.errors import JobError

    record = read_record(folder)
    click.echo(text(record.predicate))
    if html is not None:
        try:
            html.write_text(to_page(record.predicate), encoding="utf-8")
        except OSError as error:
            what = f"the page cannot be written: {error.strerror}"
            raise JobError(what, where=str(html)) from error
    click.echo(f"page: {html or folder / PAGE}", err=True)


@command.command("sign")
@_folder
@click.option("--key", type=_FILE, help="Private key (PEM). Default: LOTUS_RAY_SIGNING_KEY.")
def sign(folder: Path, key: Path | None) -> None:
    """Sign the record in DIR by Ed25519 or ECDSA P-256."""
    from lotus_ray.audit.keys import read_signer, warning_about
    from lotus_ray.audit.sign import sign

    signer = read_signer(key)
    print_notes(filter(None, [warning_about(key)]))
    click.echo(f"signed by key {sign(folder, signer)}")


@command.command("verify")
@_folder
@click.option("--key", "keys", multiple=True, type=_FILE, help="Public key (PEM). Repeatable.")
@click.option("--ids", type=_FILE, help="Check that these ids were forgotten.")
@click.option("--commitment-key", type=_FILE, help="Key of the commitments, for --ids.")
def verify(
    folder: Path, keys: tuple[Path, ...], ids: Path | None, commitment_key: Path | None
) -> None:
    """Check every byte in DIR, offline. Exit with 0 if it is signed, whole, and no gate failed."""
    from lotus_ray.audit.commitment import read_key
    from lotus_ray.audit.keys import read_public
    from lotus_ray.audit.verify import verify
    from lotus_ray.data.roles.id_files import read_sample_ids

    named = read_sample_ids(ids).ids if ids else None
    verified = verify(folder, read_public(keys), read_key(commitment_key), named)
    for finding in verified.findings:
        click.echo(finding)
    click.echo(verified.last_line)
    sys.exit(verified.exit_code)


@command.command("purge")
@click.argument("store")
@click.option("--request", "request_id", required=True, help="The id of the request.")
def purge(store: str, request_id: str) -> None:
    """Remove ids, outputs, weights and caches of a request from STORE. Its record stays."""
    from lotus_ray.audit.purge import purge
    from lotus_ray.store.results import Store

    opened = Store.open(store)
    opened.check_exists()
    for line in purge(opened, request_id):
        click.echo(f"removed: {line}")
