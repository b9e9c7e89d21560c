"""What a record says. Its JSON Schema is published: record.schema.json, beside this file."""

from __future__ import annotations

from importlib import resources
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lotus_ray.audit.gates import GateResult, Outcome, Reference

PREDICATE_TYPE = "urn:lotus-ray:deletion-request:v1"
SCHEMA = "record.schema.json"

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Demonstrated = Literal["demonstrated", "partly demonstrated", "not demonstrated"]


class Part(BaseModel):
    """A part of a record: unknown keys, NaN and infinity are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Value(Part):
    """A figure with its 95 % interval, over n images."""

    value: float
    low: float | None
    high: float | None
    n: Count


class Figure(Part):
    """One figure of the model before and after, beside its reference."""

    name: str
    meaning: str
    interval: str = Field(description="how the intervals are made")
    before: Value | None
    after: Value | None
    reference: Value | None
    reference_is: str
    undefined: str | None = None


class Verdict(Part):
    """Whether forgetting was demonstrated, in one sentence, and by which rule."""

    forgetting: Demonstrated
    sentence: str
    rule: str


class Request(Part):
    """One list of ids. The counts are of ids, each counted once."""

    request_id: str
    received: str = Field(description="UTC, ISO 8601")
    asked: Count
    found: Count = Field(description="training images that were forgotten")
    missing: Count
    held_out: Count = Field(description="never trained on: nothing to forget")
    repeated: Count = Field(description="lines that name an id again")
    in_other_requests: Count = Field(description="ids that another list of this run names too")
    forgotten_before: Count = Field(description="found, and forgotten by an earlier record too")
    commitment: Digest = Field(description="keyed, to the set of all ids that were asked")
    recognised_before: Count = Field(description="of the found images, by the model before")
    recognised_after: Count


class Commitments(Part):
    """Keyed commitments to the ids that were forgotten. Without the key they name nobody."""

    algorithm: Literal["HMAC-SHA256"]
    key_check: Digest = Field(description="tells whether two records were made with one key")
    set: Digest = Field(description="to the set of ids that were forgotten")
    ids: list[Digest] = Field(description="one for each id that was forgotten, sorted")


class NearDuplicates(Part):
    """Other images that look like images to forget: they stay, and may still teach the model."""

    method: str
    pairs_inside: Count = Field(description="pairs of images, both to forget")
    kept_in_training: Count = Field(description="training images that were not to be forgotten")
    held_out: Count


class Data(Part):
    """The images of the run, by count, and the digests of their manifests."""

    forget: Count
    retain: Count
    unseen: Count
    test: Count
    left_out: Count = Field(description="forgotten by earlier records, and used for nothing here")
    bad_images: Count = Field(description="could not be decoded, and were left out")
    manifest_sha256: Digest
    calibration_manifest_sha256: Digest | None
    roles_commitment: Digest = Field(description="keyed, to the role of every image")


class InputModel(Part):
    """The model before."""

    name: str
    classes: Count
    options: dict[str, Any]
    revision: str | None
    sha256: Digest = Field(description="of its weights: the file as given, else as trained")
    source: str
    still_exists: str = Field(description="where the old weights still are")


class OutputModel(Part):
    """The model after."""

    file: str
    sha256: Digest
    bytes: Count
    format: Literal["safetensors"] = "safetensors"
    parameters_moved: float | None
    relative_distance: float | None


class Run(Part):
    """How the run was made: enough to make it again."""

    method: dict[str, Any]
    configuration: dict[str, Any] = Field(description="without what names images")
    configuration_sha256: Digest
    seed: int
    precision: str
    decoder: str
    workers: Count | None
    threads_per_worker: Count | None
    device: str | None
    attempts: Count
    seconds: float
    versions: dict[str, str]
    git_commit: str | None = Field(description="of lotus-ray, if it runs from a checkout")
    git_dirty: bool | None


class Attack(Part):
    """A guess whether an image was trained on, from one score, by a threshold."""

    score: str
    of: Literal["forget", "retain"]
    figure: str
    before: Value | None
    after: Value | None
    undefined: str | None = None


class RelearnModel(Part):
    """What one model recognises while a copy of it learns from images to keep, by step."""

    forget: list[Share] = Field(description="share of the images to forget")
    unseen: list[Share] | None = Field(
        description="share of new images, in the mix of classes of the images to forget"
    )


class RelearnCurve(Part):
    """Whether a little training on images to keep alone brings forgotten images back."""

    steps: Annotated[list[Count], Field(min_length=2)] = Field(description="of training")
    images: Count = Field(description="to keep, that the copies learned from")
    batch_size: Annotated[int, Field(ge=1)]
    lr: float
    forget_images: Annotated[int, Field(ge=1)] = Field(description="that were measured")
    unseen_images: Annotated[int, Field(ge=1)] | None = Field(description="that were measured")
    unseen_effective: Annotated[float, Field(gt=0)] | None = Field(
        description="as many images of equal weight have the same standard error (Kish)"
    )
    unlearned: RelearnModel
    gold: RelearnModel | None
    against: Reference | None = Field(
        description="gold: the forget curve of gold; unseen: that of new images of the same model"
    )
    area: Value | None = Field(
        description="mean over the steps of the forget accuracy, less that of `against`; "
        "trapezoids, and Newcombe's 95 % interval"
    )

    @model_validator(mode="after")
    def _of_one_length(self) -> RelearnCurve:
        """Refuse what cannot be drawn: steps that do not rise, or lines of other lengths."""
        if self.steps[0] or any(later <= step for step, later in pairwise(self.steps)):
            raise ValueError("the steps of a relearn curve rise from 0 on")
        models = [each for each in (self.unlearned, self.gold) if each]
        lines = [line for each in models for line in (each.forget, each.unseen) if line is not None]
        has_unseen = {self.unseen_images is not None, self.unseen_effective is not None}
        has_unseen |= {each.unseen is not None for each in models}
        if len(has_unseen) > 1 or any(len(line) != len(self.steps) for line in lines):
            raise ValueError("a relearn curve has one accuracy for each step and set of images")
        return self


class Chain(Part):
    """The place of this record after earlier ones, and how far the model has drifted since."""

    position: Annotated[int, Field(ge=1, le=9_999)]  # a larger one only makes a check endless
    previous_sha256: Digest | None = Field(description="of the file of the previous record")
    requests_so_far: Count
    first_heldout_accuracy: float | None = Field(description="of the last full training")
    drift: float | None = Field(description="held-out accuracy lost since then")
    retrain_at: float
    retrain_now: bool


class Predicate(Part):
    """The record of a run for one deletion request, or for several at once."""

    format: Literal[1] = 1
    outcome: Outcome
    verdict: Verdict
    claim: str
    guarantee: Literal["approximate", "exact", "certified"]
    completed: str = Field(description="UTC, ISO 8601")
    requests: Annotated[list[Request], Field(min_length=1)]
    commitments: Commitments
    near_duplicates: NearDuplicates | None
    data: Data
    input_model: InputModel
    output_model: OutputModel
    run: Run
    figures: Annotated[list[Figure], Field(min_length=2)]
    metrics_before: dict[str, float | None]
    metrics_after: dict[str, float | None]
    attacks: list[Attack]
    relearn_curve: RelearnCurve | None
    gates: list[GateResult]
    chain: Chain
    residual_copies: list[str]
    not_shown: list[str] = Field(description="what this record does not show")


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the predicate, as it is published."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": PREDICATE_TYPE,
        **Predicate.model_json_schema(mode="serialization"),
    }


def published_schema() -> str:
    """Return the text of the published schema."""
    return resources.files(__package__).joinpath(SCHEMA).read_text("utf-8")
