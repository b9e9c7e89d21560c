"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

store_option = click.option(
    "--store", "store_uri", metavar="URI", help="Use this store instead of the job's."
)
local_option = click.option("--local", is_flag=True, help="Run in one process, without Ray.")
import_option = click.option(
    "--import",
    "imports",
    multiple=True,
    metavar="FILE_OR_MODULE",
    help="Use the methods, models, sources and metrics of this file or module.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def job_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add JOB, --set, --offline and --import; the command gets `job`, `overrides`, `imports`."""

    @functools.wraps(command)
    def with_overrides(overrides: tuple[str, ...], offline: bool, **rest: Any) -> None:
        command(overrides=(*overrides, "offline=true") if offline else overrides, **rest)

    decorators = (
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="A.B=C",
            help="Change a value of the job. model.B and dataset.B change it for all of them.",
        ),
        click.option("--offline", is_flag=True, help="Download no pretrained weights."),
        import_option,
        click.argument("job", type=click.Path(path_type=Path)),
    )
    wrapped: Callable[..., None] = with_overrides
    for decorate in decorators:
        wrapped = decorate(wrapped)
    return wrapped
