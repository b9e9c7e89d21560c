"""A job -> its groups of cells, and the table of roles of each group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lotus_ray.base.errors import JobError
from lotus_ray.data.prepared.manifest import Manifest
from lotus_ray.data.roles.table import Roles
from lotus_ray.job.cells import Cell, CellGroup, make_cells
from lotus_ray.job.load import LoadedJob
from lotus_ray.job.samples import Samples
from lotus_ray.job.schema.model import ModelJob


@dataclass(frozen=True)
class Plan:
    """The groups of a job, and their tables of roles, by name in the store."""

    groups: tuple[CellGroup, ...]
    roles: dict[str, Roles]

    @property
    def cells(self) -> list[Cell]:
        """All cells, group by group."""
        return [cell for group in self.groups for cell in group.cells]

    @property
    def notes(self) -> list[str]:
        """One line for each warning about the data, with its groups."""
        seeds: dict[tuple[str, str, str], dict[str, None]] = {}
        for group in self.groups:
            for note in group.notes:
                key = (group.benchmark, group.setting, note)
                seeds.setdefault(key, {})[str(group.seed)] = None
        return [
            f"{benchmark}, {setting}, seed {', '.join(of_note)}: {note}"
            for (benchmark, setting, note), of_note in seeds.items()
        ]

    def with_folders(self, moved: Mapping[Path, Path]) -> Plan:
        """Return the plan with new folders of data.

        Args:
            moved: new folder by old folder. Folders that are not here do not change.
        """
        groups = [
            replace(group, manifests=tuple(moved.get(path, path) for path in group.manifests))
            for group in self.groups
        ]
        return replace(self, groups=tuple(groups))


def plan(loaded: LoadedJob, manifests: Sequence[Manifest], limit: int | None = None) -> Plan:
    """Expand a job to groups.

    Args:
        loaded: the job.
        manifests: of the data sets, in the order of the job.
        limit: keep at most this many samples of each role (the rows are marked smoke).

    Returns:
        One group for each data set × model × seed.

    Raises:
        DataError: labels or roles are wrong.
        JobError: a weights file cannot be read, or two groups are the same.
    """
    grid = loaded.job.grid
    groups: list[CellGroup] = []
    roles: dict[str, Roles] = {}
    for dataset, manifest in zip(grid.datasets, manifests, strict=True):
        samples = Samples.read(dataset, manifest)
        for seed in dict.fromkeys(grid.seeds):
            for index, model in enumerate(grid.models):
                drawn, cut = samples.draw(seed, bool(model.train), limit)
                group = _group(loaded, samples, model, drawn, seed, cut)
                if group.roles_name not in roles:
                    roles[group.roles_name] = drawn
                cells = make_cells(loaded.entries[index], group, samples.digests)
                groups.append(replace(group, cells=cells, notes=samples.notes(drawn)))
    _check_distinct(groups)
    return Plan(tuple(groups), roles)


def _group(
    loaded: LoadedJob,
    samples: Samples,
    model: ModelJob,
    roles: Roles,
    seed: int,
    limit: int | None,
) -> CellGroup:
    """Return a group that has no cells yet."""
    dataset, weights = samples.dataset, model.initial_checkpoint
    return CellGroup(
        benchmark=dataset.name,
        model_label=model.label or model.name,
        setting=dataset.setting_name + (f"_smoke{limit}" if limit else ""),
        seed=seed,
        manifests=samples.folders,
        roles_digest=roles.digest,
        transform=dataset.transform_for(model.preparation),
        model=model.spec(len(samples.manifest.classes), loaded.job.offline),
        checkpoint=str(Path(weights).absolute()) if weights else None,
        precision=loaded.job.precision,
        batch_size=loaded.job.batch_size,
        limit=limit,
        shuffle_window=dataset.shuffle_window,
        cells=(),
        expected_accuracy=model.expected_accuracy,
        accuracy_tolerance=model.accuracy_tolerance,
        checkpoint_key=model.checkpoint_key,
        own_metrics=tuple(metric.spec() for metric in loaded.metrics),
        relearn=relearn.spec() if (relearn := loaded.job.relearn) else None,
    )


def _check_distinct(groups: Sequence[CellGroup]) -> None:
    """Raise JobError if two groups hold the same cells under two names."""
    first: dict[str, CellGroup] = {}
    for group in groups:
        twin = first.setdefault(group.original.cell_id, group)
        if twin is not group:
            raise JobError(
                f"'{group.name}, {group.setting}' and '{twin.name}, {twin.setting}' are the same",
                where="grid.datasets × grid.models",
                next_command="remove one of the two from the job",
            )
