"""A job, reduced to the method that answers a request."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lotus_ray.base.errors import JobError
from lotus_ray.job.load import LoadedJob, load_job
from lotus_ray.unlearning.methods import registered_name

WITHOUT_RECIPE = "model.train={}"  # of a model that goes on from the output of a request


def load_one(
    path: Path,
    method: str,
    overrides: Sequence[str] = (),
    imports: Sequence[str] = (),
    say: Callable[[str], None] = lambda note: None,
) -> LoadedJob:
    """Read a job, reduced to one method with the job's hyper-parameters, and gold if it is listed.

    Args:
        path: of the job.
        method: name of the method. It need not be in the job.
        overrides: A.B=C, from the command line.
        imports: plug-ins, from the command line.
        say: takes a line for people, if gold is listed and cannot be trained.

    Raises:
        JobError: the job is wrong, has several variants of the method, or has several groups.
    """
    with_recipe = [each for each in overrides if each != WITHOUT_RECIPE]  # gold may be listed
    methods = load_job(path, with_recipe, imports).job.grid.methods
    method = registered_name(method)
    listed = [m for m in methods if method == _name_of(m)]
    if len(listed) > 1:
        raise JobError(
            f"the job lists {len(listed)} variants of {method}",
            where=str(path),
            next_command=f"lotus-ray forget {path} --set grid.methods=[{{name: {method}, …}}]",
        )
    golds = [m for m in methods if _name_of(m) == "gold" != method]
    wanted = [*golds[:1], listed[0] if listed else method]
    is_continued = WITHOUT_RECIPE in overrides
    if is_continued and golds:
        say("gold is left out: the model of --after has no recipe to train one again from")
    entries = json.dumps(wanted[-1:] if is_continued else wanted)
    loaded = load_job(path, [*overrides, f"grid.methods={entries}"], imports)
    grid = loaded.job.grid
    for name in ("datasets", "models", "seeds"):
        if len(getattr(grid, name)) > 1:
            raise JobError(
                f"a request is for one model, and the job has {len(getattr(grid, name))} {name}",
                where=f"{path} grid.{name}",
                next_command=f"lotus-ray forget {path} --method {method} "
                f"--set grid.{name}=[…] --output DIR",
            )
    return loaded


def _name_of(entry: str | dict[str, Any]) -> str:
    return registered_name(entry if isinstance(entry, str) else str(entry.get("name")))
