"""Notes on models with given weights: how their images are prepared, and what is not checked."""

from __future__ import annotations

from collections.abc import Iterable

from lotus_ray.job.schema.dataset import DatasetJob
from lotus_ray.job.schema.job import Job
from lotus_ray.models.preparation import Preparation, lost_crop


def weights_notes(job: Job) -> list[str]:
    """Return a note for each value that comes from a model, from nowhere, or that is missing."""
    notes = []
    for model in job.grid.models:
        if not model.has_weights:
            continue
        name = model.label or model.name
        unsaid = _unsaid(job.grid.datasets)
        if unsaid and (own := model.preparation):
            values = ", ".join(f"{key} {_text(own, key)}" for key in unsaid)
            notes.append(
                f"{name}: the job does not say, so {model.name}'s own values hold: {values}"
            )
        elif unsaid:
            values = ", ".join(f"{key} {_text(Preparation(), key)}" for key in unsaid)
            notes.append(
                f"{name}: neither the job nor {model.name} says how its weights want images; "
                f"taken: {values}. Wrong values cost accuracy: say them in the data set"
            )
        if "crop_pct" in unsaid and (how := lost_crop(model.name)):
            notes.append(
                f"{name}: its weights were trained on images with the crop '{how}' of timm, which "
                "is not done here: the centre is cropped, and accuracy may differ"
            )
        is_original = not model.train.get("epochs")
        if model.initial_checkpoint and is_original and model.expected_accuracy is None:
            notes.append(
                f"{name}: give expected_accuracy, what the checkpoint reaches on held-out images: "
                "labels in another order and images prepared in another way are found by it alone"
            )
    return list(dict.fromkeys(notes))


def _unsaid(datasets: Iterable[DatasetJob]) -> list[str]:
    """Return which keys of the preparation some data set leaves out."""
    given = list(datasets)
    return [
        key
        for key in Preparation.__dataclass_fields__
        if any(getattr(dataset, key) is None for dataset in given)
    ]


def _text(preparation: Preparation, key: str) -> str:
    value = getattr(preparation, key)
    if isinstance(value, tuple):
        return str(list(value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
