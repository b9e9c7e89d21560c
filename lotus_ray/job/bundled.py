"""Job files that come with lotus-ray: `lotus-ray grid digits` needs no checkout."""

from __future__ import annotations

import re
from pathlib import Path

from lotus_ray.base.errors import nearest

PACKAGE = Path(__file__).parents[1]
NO_JOBS = ("shared", "clusters")  # folders of what jobs extend, and of what they run on


def folder() -> Path:
    """Return the folder of the job files: in the installed package, or beside it in a checkout."""
    installed = PACKAGE / "jobs"
    return installed if installed.is_dir() else PACKAGE.parent / "jobs"


def files() -> dict[str, Path]:
    """Return the job files by name, such as `digits` or `ablations/alpha-cifar10-vit`."""
    root = folder()
    paths = sorted(root.rglob("*.yaml"), key=lambda path: (path.parent != root, path))
    names = {path.relative_to(root).with_suffix("").as_posix(): path for path in paths}
    return {name: path for name, path in names.items() if name.partition("/")[0] not in NO_JOBS}


def find(name: Path) -> Path:
    """Return the file that a command names: a file of the user, else one of ours, else `name`."""
    return name if name.is_file() else files().get(name.as_posix(), name)


def nearest_name(name: Path) -> str:
    """Return the job of ours that `name` resembles; empty if there is none."""
    wanted = name.with_suffix("").as_posix() if name.suffix == ".yaml" else name.as_posix()
    return nearest(wanted.removeprefix("jobs/"), files())


def about(path: Path) -> str:
    """Return what the comment at the top of a job file says, without its first line."""
    comment = re.match(r"(#.*\n)*", path.read_text(encoding="utf-8"))
    lines = comment[0].splitlines()[1:] if comment else []
    return " ".join(line.removeprefix("#").strip() for line in lines)
