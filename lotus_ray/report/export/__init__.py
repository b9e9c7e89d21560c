"""The store's rows -> runs of experiment trackers. Imports neither torch nor Ray.

No run needs this. The store is the durable record, and it can be exported again at any time.
"""

from collections.abc import Callable, Sequence

from lotus_ray.report.export import mlflow, tensorboard
from lotus_ray.report.export.runs import CellRun, Exported

# Each takes the runs and their destination: a tracking URI or a folder.
TRACKERS: dict[str, Callable[[Sequence[CellRun], str], Exported]] = {
    "mlflow": mlflow.export,
    "tensorboard": tensorboard.export,
}
