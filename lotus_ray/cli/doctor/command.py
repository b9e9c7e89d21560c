"""`lotus-ray doctor`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from lotus_ray.cli.options import import_option, json_option


@click.command("doctor")
@click.option("--store", metavar="URI", help="Check that this store creates each object once.")
@click.option("--job", type=click.Path(path_type=Path), help="Check for the needs of this job.")
@import_option
@json_option
def command(store: str | None, job: Path | None, imports: tuple[str, ...], as_json: bool) -> None:
    """Check this machine, its Ray and a store. Print the next command for each problem."""
    from lotus_ray.cli.doctor import finding
    from lotus_ray.cli.doctor.examine import checks, examine

    findings = examine(checks(store, job, imports))
    code = finding.exit_code(findings)
    plain = {"findings": [each.to_plain() for each in findings], "exit_code": code}
    click.echo(json.dumps(plain, indent=1) if as_json else finding.to_text(findings))
    sys.exit(code)
