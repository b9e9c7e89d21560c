"""What a store's rows came from: the job's name, and the folders of its images.

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
    """The last job of a store, and the prepared folders of all its jobs."""

    job: str = ""  # name of the job file, without its ending; empty if it is not known
    folders: Sequence[str] = ()

    @classmethod
    def read(cls, store: Store) -> Self:
        """Read the file of a store; a missing or torn one says nothing.

        Raises:
            StoreError: the store cannot be read.
        """
        try:
            content = json.loads(store.find(ORIGIN) or b"{}")
            return cls(str(content.get("job", "")), tuple(map(str, content.get("folders", ()))))
        except (ValueError, AttributeError, TypeError):
            return cls()

    def add_to(self, store: Store) -> None:
        """Write this job, and its folders beside those that are known.

        Raises:
            StoreError: the store cannot be written.
        """
        folders = list(dict.fromkeys([*self.read(store).folders, *self.folders]))
        content = {"job": self.job, "folders": folders}
        store.replace(ORIGIN, json.dumps(content, indent=1).encode() + b"\n")
