"""The store's rows -> runs of experiment trackers. Imports neither torch nor Ray.

Nothing here is needed for a run: the store is the record, and what is exported can be again.
"""

from collections.abc import Callable, Sequence

from lotus_ray.report.export import mlflow, tensorboard
from lotus_ray.report.export.runs import CellRun, Exported

# Each is given the runs and where they go: a tracking URI, a folder.
TRACKERS: dict[str, Callable[[Sequence[CellRun], str], Exported]] = {
    "mlflow": mlflow.export,
    "tensorboard": tensorboard.export,
}
