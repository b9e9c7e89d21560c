"""Read and validate a job file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lotus_ray import models
from lotus_ray.base.errors import JobError
from lotus_ray.data.sources import find, prepare_command
from lotus_ray.job.explain import explain
from lotus_ray.job.extends import read_document
from lotus_ray.job.method_entry import MethodEntry
from lotus_ray.job.methods import check_defaults, methods_of
from lotus_ray.job.paths import check_paths
from lotus_ray.job.plugins.read_code import is_path, notes_on_other_files
from lotus_ray.job.plugins.use import use_plugins
from lotus_ray.job.renamed_keys import replace_old_keys
from lotus_ray.job.repeated_notes import repeated_notes
from lotus_ray.job.schema.job import Job
from lotus_ray.job.weights_notes import weights_notes
from lotus_ray.job.yaml_document import IN_PYTHON, Document
from lotus_ray.metrics.own import OwnMetric, find_metric
from lotus_ray.models import pretrained
from lotus_ray.unlearning.method import Method

IMPORT = "import"  # a key of jobs


@dataclass(frozen=True)
class LoadedJob:
    """A valid job.

    `entries[m]` are the methods of model m: the original first, then gold standards, then others.
    """

    job: Job
    entries: tuple[tuple[MethodEntry, ...], ...]
    document: Document
    notes: tuple[str, ...] = ()  # old keys in the file and their new names; weights; plug-ins
    metrics: tuple[OwnMetric, ...] = ()  # of plug-ins

    @property
    def name(self) -> str:
        """The name of the job's file without its ending; empty for a job that Python code holds."""
        return "" if self.document.file == IN_PYTHON else Path(self.document.file).stem

    @property
    def methods(self) -> tuple[tuple[Method, ...], ...]:
        """Return the methods of each model, without their batch sizes."""
        return tuple(tuple(entry.method for entry in entries) for entries in self.entries)


def load_job(
    source: Path | Mapping[str, Any], overrides: Sequence[str] = (), imports: Sequence[str] = ()
) -> LoadedJob:
    """Read and validate a job file, or the same as a mapping.

    Args:
        source: the YAML file, or its values.
        overrides: `a.b=c` assignments, applied before validation.
        imports: plug-ins, beside those that the job imports: see `use_plugins`.

    Returns:
        The job.

    Raises:
        JobError: the job is wrong. The text says what, where and what to do.
        MethodError: a hyper-parameter is out of range.
        PluginError: a plug-in cannot be imported.
    """
    notes: list[str] = []

    def on_read(part: Document) -> None:
        notes.extend(replace_old_keys(part))
        part.make_relative(IMPORT, is_path)

    document = read_document(source, on_read)
    _check_is_a_job(document)
    document.append(("grid", "methods"), ("grid", "more_methods"))
    for assignment in overrides:
        document.override(assignment)
        notes += replace_old_keys(document, overwrite=True)
    _set_dataset_defaults(document)
    try:
        job = Job.model_validate(document.values)
    except ValidationError as error:
        raise explain(error, document) from None
    use_plugins([*job.imports, *imports])
    _check_names(job, document)
    check_paths(job, Path(document.file), document)
    check_defaults(job, document)
    metrics = tuple(
        find_metric(name, document.where(("metrics", index)))
        for index, name in enumerate(dict.fromkeys(job.metrics))
    )
    entries = [methods_of(job, index, document) for index in range(len(job.grid.models))]
    notes += [*repeated_notes(job), *weights_notes(job)]
    notes += notes_on_other_files([*job.imports, *imports])
    return LoadedJob(job, tuple(entries), document, tuple(notes), metrics)


def _set_dataset_defaults(document: Document) -> None:
    """Add missing keys to every data set, from defaults.dataset."""
    for index in range(document.count(("grid", "datasets"))):
        dataset = ("grid", "datasets", index)
        # A setting's name belongs to its forget set: do not combine it with another forget set.
        own = ("setting",) if document.has((*dataset, "forget")) else ()
        document.set_defaults(dataset, ("defaults", "dataset"), without=own)


def _check_is_a_job(document: Document) -> None:
    """Raise JobError if the file describes a cluster: those files are in jobs/ too."""
    for keys, what, command in (
        (("cluster_name", "provider"), "a cluster for Ray's launcher", "ray up"),
        (("apiVersion", "kind"), "a Kubernetes manifest", "kubectl create -f"),
        (("num_nodes", "run"), "a task for SkyPilot", "sky jobs launch"),
    ):
        if all(document.has((key,)) for key in keys):
            raise JobError(
                f"this is {what}, not a job",
                where=document.where(keys[:1]),
                nearest="jobs/digits.yaml",
                next_command=f"{command} {document.file}",
            )


def _check_names(job: Job, document: Document) -> None:
    """Raise JobError if a source, model or weights do not exist, or files are not prepared."""
    for index, dataset in enumerate(job.grid.datasets):
        if dataset.source is not None:
            where = document.where(("grid", "datasets", index, "source"))
            if not find(dataset.source, where).embedded and dataset.manifest is None:
                raise JobError(
                    f"the files of {dataset.source} have to be prepared first",
                    where=where,
                    nearest=f"manifest: data/{dataset.source}",
                    next_command=prepare_command(dataset.source, f"data/{dataset.source}"),
                )
    for index, model in enumerate(job.grid.models):
        path = ("grid", "models", index)
        models.check_name(model.name, document.where((*path, "name")))
        pretrained.check(model.name, model.weights, document.where((*path, "pretrained")))
