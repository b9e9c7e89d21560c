"""Choose the parts in which a training step fits in the memory of a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lotus_ray.base.errors import JobError, LotusRayError
from lotus_ray.base.memory import CONTEXT_BYTES, USABLE
from lotus_ray.job.schema.resources import Resources
from lotus_ray.job.step_memory import StepMemory
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.jit import Jit
from lotus_ray.unlearning.methods.ssd import Ssd
from lotus_ray.unlearning.obstacle import obstacle_to_parts

GIB = 1 << 30


@dataclass(frozen=True)
class Step:
    """A step of a method on one worker."""

    method: Method
    batch_size: int  # of the global batch
    workers: int
    memory: StepMemory

    @property
    def images(self) -> int:
        """Images that go through forward and backward together where the step is whole."""
        return -(-self.batch_size // self.workers) * self.method.batches_held

    @property
    def can_split(self) -> bool:
        """True if the step can run in parts."""
        return self.obstacle is None

    @property
    def obstacle(self) -> LotusRayError | None:
        """Why the step cannot run in parts, or None."""
        is_in_eval_mode = isinstance(self.method, Ssd | Jit)
        return obstacle_to_parts(self.method, None if is_in_eval_mode else self.memory.norm)

    def bytes(self, part: int | None = None) -> int:
        """Return the bytes of the step in parts of at most `part` images; None is the whole."""
        images = self.images if part is None or not self.can_split else min(part, self.images)
        return self.memory.bytes(images, self.method.weight_copies, self.images)

    def largest_part(self, limit: int) -> int:
        """Return the most images of a part that fit in `limit` bytes; 0 if none does."""
        return self.memory.most_images(limit, self.method.weight_copies, self.images)

    def largest_batch(self, limit: int) -> int:
        """Return the most rows of a global batch whose whole step fits in `limit` bytes."""
        images = self.memory.most_images(limit, self.method.weight_copies)
        return images // self.method.batches_held * self.workers


def usable_bytes(resources: Resources) -> int | None:
    """Return the bytes of a GPU that the tensors of a worker can take; None if it is unknown."""
    if not resources.gpu_memory_gb or not resources.gpus_per_worker:
        return None
    share = USABLE * min(resources.gpus_per_worker, 1.0)
    return max(int(resources.gpu_memory_gb * share * GIB) - CONTEXT_BYTES, 0)


def choose_part(steps: Sequence[Step], resources: Resources) -> int | None:
    """Return the images of a part with which the steps of one network fit, or None for no parts.

    With `micro_batch: auto` that is the largest power of two. A network that draws random numbers
    stays whole where one worker may halve its steps later, as parts change its results.

    Args:
        steps: of all methods.
        resources: of the job.

    Raises:
        JobError: no part fits, or not the one that the job gives; or a step cannot be split.
        MethodError: a step cannot be split.
    """
    limit, asked = usable_bytes(resources), resources.micro_batch
    part = None if asked == "auto" else asked
    for step in steps:
        if step.obstacle and part is not None and step.images > part:
            raise step.obstacle
    if limit is None:
        return part
    too_large = [step for step in steps if step.bytes(part) > limit]
    if not too_large:
        return part
    for step in too_large:
        if not step.can_split or step.largest_part(limit) < 1:
            raise _does_not_fit(step, part, limit, resources)
    fitting = _power_of_two(min(step.largest_part(limit) for step in too_large))
    if asked != "auto":
        raise _does_not_fit(too_large[0], part, limit, resources, fitting)
    if too_large[0].memory.is_random:
        if resources.workers > 1:  # they do not halve by themselves
            raise _does_not_fit(too_large[0], part, limit, resources, fitting)
        return None
    return fitting


def _power_of_two(most: int) -> int:
    """Return the largest power of two up to `most`, which is at least 1."""
    return 1 << (most.bit_length() - 1)


def _does_not_fit(
    step: Step, part: int | None, limit: int, resources: Resources, fitting: int | None = None
) -> JobError:
    """Return the error that names what would fit: a part, a batch size, or a larger GPU."""
    name = step.method.name
    where, nearest = "resources.micro_batch", f"micro_batch: {fitting}"
    command = f"lotus-ray validate JOB.yaml --set resources.micro_batch={fitting}"
    why = ""
    if fitting is None:
        rows = step.largest_batch(limit)
        where, nearest = "resources.gpu_memory_gb", "a GPU with more memory"
        command = "lotus-ray validate JOB.yaml --set resources.gpu_memory_gb=…"
        if not step.can_split and rows:
            where, nearest = "batch_size", f"batch_size: {rows} for {name}"
            command = "lotus-ray validate JOB.yaml"
            why = f", and {step.obstacle.what}" if step.obstacle else ""
    parts = f" in parts of {part}" if part and step.can_split else ""
    return JobError(
        f"a step of {name} with {step.batch_size} images takes about "
        f"{step.bytes(part) / GIB:.1f} GiB{parts}, and {limit / GIB:.1f} GiB of a GPU of "
        f"{resources.gpu_memory_gb:g} GiB are free for it{why}",
        where=where,
        nearest=nearest,
        next_command=command,
    )
