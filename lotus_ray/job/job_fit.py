"""Say whether the steps of a job fit in the memory of its GPUs, and in which parts."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

from lotus_ray.job.cells import CellGroup
from lotus_ray.job.load import LoadedJob
from lotus_ray.job.method_spec import build_method
from lotus_ray.job.networks import Network, network_of
from lotus_ray.job.schema.resources import Resources
from lotus_ray.job.step_fit import GIB, Step, choose_part, usable_bytes
from lotus_ray.job.step_memory import StepMemory, step_memory
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.finetune import Finetune
from lotus_ray.unlearning.methods.from_scratch import FromScratch
from lotus_ray.unlearning.methods.last_blocks import LastBlocks

_log = logging.getLogger(__name__)


class StepFits:
    """Estimates networks, each once in a process."""

    _known: ClassVar[list[tuple[Network, str, StepMemory | None]]] = []

    def __init__(self, resources: Resources, precision: str) -> None:
        self._resources, self._precision = resources, precision

    def steps(self, network: Network, methods: Iterable[tuple[Method, int]]) -> list[Step]:
        """Return the steps of methods, with the batch size of each, on a network.

        None for methods that train a part of the network alone, and none for a network that cannot
        be estimated: it may do what has no answer without numbers.
        """
        memory = self._memory(network)
        if memory is None:
            return []
        workers = self._resources.least_workers
        return [Step(method, size, workers, memory) for method, size in methods if _trains(method)]

    def _memory(self, network: Network) -> StepMemory | None:
        """Estimate a network once."""
        for known, precision, memory in self._known:
            if (known, precision) == (network, self._precision):
                return memory
        try:
            memory = step_memory(network, self._precision)
        except Exception as error:  # networks of other packages can raise any error
            _log.warning("no memory estimate for %s: %s", network.model.name, error)
            memory = None
        self._known.append((network, self._precision, memory))
        return memory

    def part_of(self, group: CellGroup) -> int | None:
        """Return the images of a part for the cells of a group: see `choose_part`."""
        if usable_bytes(self._resources) is None and self._resources.micro_batch == "auto":
            return None
        network = network_of(group)
        methods = [build_method(cell.spec["method"]) for cell in group.cells]
        sizes = [cell.spec.get("batch_size", group.batch_size) for cell in group.cells]
        entries = [(m, _batch_size(m, size)) for m, size in zip(methods, sizes, strict=True)]
        return choose_part(self.steps(network, entries), self._resources)


def fit_lines(loaded: LoadedJob) -> Iterator[str]:
    """Yield one line for each data set × model: what its largest step takes, and in which parts.

    Raises:
        JobError: a step does not fit in the memory that the job gives its GPUs.
    """
    job = loaded.job
    fits = StepFits(job.resources, job.precision)
    for dataset in job.grid.datasets:
        for model, entries in zip(job.grid.models, loaded.entries, strict=True):
            spec = model.spec(dataset.num_classes or 2, job.offline)
            network = Network(spec, None, dataset.img_size)
            methods = [(each.method, _batch_size(each.method, each.batch_size)) for each in entries]
            steps = fits.steps(network, methods)
            if steps:
                part = choose_part(steps, job.resources)
                name = f"{dataset.name} {model.label or model.name}"
                yield f"{name}: {_line(steps, part, job.resources)}"


def _line(steps: Sequence[Step], part: int | None, resources: Resources) -> str:
    """Say what the largest step takes whole and in parts, and what the GPU has."""
    step = max(steps, key=lambda step: step.bytes(part))
    text = (
        f"a step of {step.method.name} with {step.batch_size} images takes about "
        f"{step.bytes() / GIB:.1f} GiB"
    )
    if part and step.bytes(part) < step.bytes():
        text += f", {step.bytes(part) / GIB:.1f} GiB in parts of {part}"
    limit = usable_bytes(resources)
    if limit is not None:
        text += f"; of {resources.gpu_memory_gb:g} GiB, {limit / GIB:.1f} are free for it"
    return text


def _batch_size(method: Method, given: int) -> int:
    return method.batch_size if isinstance(method, FromScratch) else given


def _trains(method: Method) -> bool:
    """Return whether a method trains all of a network: else it needs less than is estimated."""
    if isinstance(method, FromScratch):
        return method.epochs > 0
    is_head_only = isinstance(method, Finetune) and method.head_only
    return not is_head_only and not isinstance(method, LastBlocks)
