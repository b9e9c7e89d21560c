"""What is known of an original before it is evaluated, so that nobody unlearns nonsense."""

from __future__ import annotations

from lotus_ray.base.errors import OriginalAccuracyError
from lotus_ray.base.roles import TEST, UNSEEN
from lotus_ray.job.cells import CellGroup
from lotus_ray.metrics.outputs import Outputs


def check_accuracy(group: CellGroup, outputs: Outputs) -> None:
    """Compare an original with the accuracy that its job expects on the held-out images.

    Args:
        group: its `expected_accuracy`, where there is one, holds within `accuracy_tolerance` over
            unseen and test set together. A group cut short by a limit is not checked.
        outputs: of the original.

    Raises:
        UnexpectedOriginal: the original is better or worse than that.
    """
    expected = group.expected_accuracy
    if expected is None or group.limit is not None:
        return
    found = float(outputs.of(outputs.predicted == outputs.labels, UNSEEN, TEST).mean())
    if not abs(found - expected) <= group.accuracy_tolerance:
        raise OriginalAccuracyError(
            f"the original is right about {found:.4f} of the held-out images, and the job expects "
            f"{expected:.4f} ± {group.accuracy_tolerance:g}: the labels may be in another order or "
            "shifted, or the images are not prepared as the model wants them",
            where=f"{group.name}: grid.models[].expected_accuracy",
            next_command="compare classes, img_size, crop_pct, interpolation, mean and std with "
            "those of the weights; or --set model.expected_accuracy=null --retry-failed",
        )
