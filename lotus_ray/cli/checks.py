"""Commands that look and change nothing: `status`, `doctor` and `list`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click


@click.command("status")
@click.argument("store")
@click.option("--json", "as_json", is_flag=True)
def status_(store: str, as_json: bool) -> None:
    """Say how far the last grid of STORE is, running or not."""
    from lotus_ray.grid.status import status
    from lotus_ray.store.results import Store

    found = status(Store.open(store))
    click.echo(json.dumps(found.to_plain(), indent=1) if as_json else found.to_text())


@click.command()
@click.option("--store", metavar="URI", help="Try whether this store creates once and not twice.")
@click.option("--job", type=click.Path(path_type=Path), help="Check for what this job needs.")
@click.option("--json", "as_json", is_flag=True)
def doctor(store: str | None, job: Path | None, as_json: bool) -> None:
    """Check this machine, its Ray and a store; say the next command for each problem."""
    from lotus_ray.cli.doctor import finding
    from lotus_ray.cli.doctor.examine import checks, examine

    found = examine(checks(store, job))
    code = finding.exit_code(found)
    plain = {"findings": [each.to_plain() for each in found], "exit_code": code}
    click.echo(json.dumps(plain, indent=1) if as_json else finding.to_text(found))
    sys.exit(code)


@click.command("list")
@click.argument("kind", type=click.Choice(["methods", "models", "datasets", "metrics"]))
@click.option("--json", "as_json", is_flag=True)
def list_(kind: str, as_json: bool) -> None:
    """List the names that jobs and reports use."""
    from lotus_ray.cli.catalogue import CATALOGUE

    items = CATALOGUE[kind]()
    width = max(len(item["name"]) for item in items)
    lines = [f"{item['name']:{width}}  {item['about']}".rstrip() for item in items]
    click.echo(json.dumps(items, indent=1) if as_json else "\n".join(lines))
