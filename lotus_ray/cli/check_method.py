"""`lotus-ray check-method`."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from lotus_ray.cli.options import import_option, json_option

FAILED = 4


@click.command("check-method")
@click.argument("name")
@click.option("--set", "settings", multiple=True, metavar="A=C", help="A hyper-parameter.")
@import_option
@json_option
def command(name: str, settings: tuple[str, ...], imports: tuple[str, ...], as_json: bool) -> None:
    """Check that a method keeps its contract, on a small problem, and print its sheet.

    These are the checks of each built-in method: restarts, two workers, steps in parts, and more.
    """
    from lotus_ray.bench.method_checks.run import check_method
    from lotus_ray.job.method_from import method_from
    from lotus_ray.job.plugins.use import use_plugins

    use_plugins(imports)
    results, sheet = check_method(method_from(name, settings), imports)
    if as_json:
        plain = {
            "checks": [asdict(each) | {"passes": each.passes} for each in results],
            "sheet": sheet.to_plain() if sheet else None,
        }
        click.echo(json.dumps(plain, indent=1))
    else:
        if sheet:
            click.echo(sheet.to_text() + "\n")
        for each in results:
            click.echo(f"{'pass' if each.passes else 'FAIL'}  {each.check}")
            if each.reason:
                click.echo(f"      {each.reason}")
    passed = sum(each.passes for each in results)
    click.echo(f"{name}: {passed} of {len(results)} checks pass", err=as_json)
    if passed < len(results):
        raise SystemExit(FAILED)
