"""A method of a job with its batch size, which the whole job or the method's entry gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lotus_ray.base.errors import JobError
from lotus_ray.job.yaml_document import Document
from lotus_ray.job.yaml_values import KeyPath
from lotus_ray.unlearning.method import Method

BATCH_SIZE = "batch_size"


@dataclass(frozen=True)
class MethodEntry:
    """A method that unlearns in global batches of so many rows. Recipes have sizes of their own."""

    method: Method
    batch_size: int


def without_batch_size(
    settings: Mapping[str, Any], path: KeyPath, document: Document
) -> tuple[dict[str, Any], int | None]:
    """Return the hyper-parameters of an entry, and the batch size that it gives, or None.

    Raises:
        JobError: the batch size is no whole number of at least 1.
    """
    hyper_parameters = dict(settings)
    size = hyper_parameters.pop(BATCH_SIZE, None)
    if size is None or (isinstance(size, int) and not isinstance(size, bool) and size >= 1):
        return hyper_parameters, size
    raise JobError(
        f"batch_size is {size}, and must be a whole number of at least 1",
        where=document.where((*path, BATCH_SIZE)),
        nearest="batch_size: 64",
        next_command=f"lotus-ray validate {document.file}",
    )


def check_has_no_batch_size(inner: Any, name: str, path: KeyPath, document: Document) -> None:
    """Raise JobError if an inner method wants batches of its own."""
    if isinstance(inner, dict) and BATCH_SIZE in inner:
        raise JobError(
            f"batch_size belongs to {name}, and its inner method has the same batches",
            where=document.where((*path, BATCH_SIZE)),
            nearest=f"{{name: {name}, batch_size: {inner[BATCH_SIZE]}}}",
            next_command=f"lotus-ray validate {document.file}",
        )
