"""What a store's rows came from: the names of its jobs, and the folders of its images.

Only commands whose report may show images write this file. `forget` does not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from lotus_ray.store.results import Store

ORIGIN = "origin.json"


@dataclass(frozen=True)
class Origin:
    """The jobs of a store, and their prepared folders."""

    jobs: Sequence[str] = ()  # names of job files, without their endings; no empty one
    folders: Sequence[str] = ()

    @property
    def job(self) -> str:
        """The name of the store's only job; empty if there are several, or none is known."""
        return self.jobs[0] if len(self.jobs) == 1 else ""

    @classmethod
    def read(cls, store: Store) -> Self:
        """Read the file of a store; a missing or torn one says nothing.

        Raises:
            StoreError: the store cannot be read.
        """
        try:
            content = json.loads(store.find(ORIGIN) or b"{}")
            jobs = content.get("jobs", [content.get("job", "")])  # before, the last job alone
            return cls(
                tuple(str(job) for job in jobs if job), tuple(map(str, content.get("folders", ())))
            )
        except (ValueError, AttributeError, TypeError):
            return cls()

    def add_to(self, store: Store) -> None:
        """Write these jobs and folders beside those that are known.

        Raises:
            StoreError: the store cannot be written.
        """
        known = self.read(store)
        jobs = list(dict.fromkeys([*known.jobs, *self.jobs]))
        folders = list(dict.fromkeys([*known.folders, *self.folders]))
        content = {"jobs": jobs, "folders": folders}
        store.replace(ORIGIN, json.dumps(content, indent=1).encode() + b"\n")
