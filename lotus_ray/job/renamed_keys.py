"""Keys of jobs that were renamed or removed, and their replacements."""

from __future__ import annotations

from lotus_ray.base.errors import JobError
from lotus_ray.job.yaml_document import Document
from lotus_ray.job.yaml_values import dotted

# Both names work for one release; then the entry moves to REMOVED.
RENAMED = {("resources", "lanes_at_once"): ("resources", "trials_at_once")}
REMOVED = {("resources", "share_gpus"): "resources.gpus_per_worker: 0.25"}  # the replacement


def replace_old_keys(document: Document, overwrite: bool = False) -> list[str]:
    """Rename old keys of a document to their new names.

    Args:
        document: changed in place.
        overwrite: True if the value of an old key replaces the value of the new key. False if a
            document must not have both.

    Returns:
        One note for each old key.

    Raises:
        JobError: the document has a removed key, or both an old and a new key.
    """
    for path, instead in REMOVED.items():
        if document.contains(path):
            raise JobError(
                f"{dotted(path)} was removed",
                where=document.where(path),
                nearest=instead,
                next_command=f"lotus-ray validate {document.file}",
            )
    notes = []
    for old, new in RENAMED.items():
        if not document.contains(old):
            continue
        note = f"{dotted(old)} is now {dotted(new)}"
        if document.contains(new) and not overwrite:
            raise JobError(
                f"{note}, and the job has both",
                where=document.where(old),
                next_command=f"remove one of the two; lotus-ray validate {document.file}",
            )
        notes.append(f"{note}: {document.where(old)}")
        document.rename(old, new)
    return notes
