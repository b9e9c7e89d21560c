"""A model of a job: its network, its weights, and the recipe of its original."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from lotus_ray.job.schema.fields import Strict
from lotus_ray.models import ModelSpec, code_of
from lotus_ray.models.preparation import Preparation, own_preparation


def _yes_no_or_name(value: Any) -> Any:
    """Refuse numbers, which pydantic would accept as true or false."""
    if not isinstance(value, bool | str):
        raise ValueError("give true, false or the name of torchvision's weights")
    return value


class ModelJob(Strict):
    """One network and the recipe of its original."""

    name: str = Field(description="see `lotus-ray list models`")
    label: str | None = Field(None, description="in reports; default: the name")
    pretrained: Annotated[bool | str, BeforeValidator(_yes_no_or_name)] = Field(
        False, description="true for the default weights, or a name of torchvision's, IMAGENET1K_V1"
    )
    initial_checkpoint: str | None = Field(
        None, description=".safetensors or .pth state dict, instead of pretrained weights"
    )
    checkpoint_key: str | None = Field(
        None, description="of an initial_checkpoint with several state dicts, such as model_ema"
    )
    expected_accuracy: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="of the original on the held-out images; if it differs, the original "
        "and all cells that start from it fail",
    )
    accuracy_tolerance: float = Field(
        0.03, gt=0, lt=1, description="largest allowed difference from expected_accuracy"
    )
    options: dict[str, JsonValue] = Field(
        default_factory=dict, description="for the model's factory"
    )
    train: dict[str, Any] = Field(
        default_factory=dict,
        description="recipe of original and gold standard: epochs, lr, batch_size, …; "
        "without it the given weights are the original",
    )

    @model_validator(mode="after")
    def _key_of_a_checkpoint(self) -> ModelJob:
        if self.checkpoint_key is not None and self.initial_checkpoint is None:
            raise ValueError("checkpoint_key needs an initial_checkpoint")
        return self

    @property
    def has_weights(self) -> bool:
        """True if the network does not start from random weights."""
        return bool(self.pretrained or self.initial_checkpoint)

    @property
    def preparation(self) -> Preparation | None:
        """How the given weights want images, if the model has a configuration that says it."""
        return own_preparation(self.name, self.pretrained or True) if self.has_weights else None

    @property
    def weights(self) -> bool | str:
        """The pretrained weights to load; False if a checkpoint replaces them."""
        return False if self.initial_checkpoint else self.pretrained

    def spec(self, num_classes: int, offline: bool) -> ModelSpec:
        """Return the network to build."""
        return ModelSpec(
            self.name, num_classes, self.weights, self.options, offline, code_of(self.name)
        )
