"""Every method and the evaluation beside the bare network: seconds, and images gone forward."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from lotus_ray.base.memory import keep_freed_memory
from lotus_ray.base.roles import FORGET, RETAIN, ROLES, STORED
from lotus_ray.bench.floors import Bare, Samples, forwards, needed
from lotus_ray.bench.generated import Sizes, Stage, build
from lotus_ray.bench.scoreboard import Figure, medians, seconds_of
from lotus_ray.metrics.evaluation import evaluate
from lotus_ray.metrics.outputs import Outputs
from lotus_ray.metrics.summary import summarise
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.forward_counter import STUDENT, TEACHER, ForwardCounter
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods import METHODS

AT_MOST = 1.10
MOST_FORWARDS = 1.02
EPOCHS = 3  # as in the ImageNet benchmark

# A network whose forwards and backwards dominate: 65 tokens of 192 numbers, 1.8 M weights.
SIZES = Sizes(
    model="vit_tiny_patch16_224",
    options={"img_size": 32, "patch_size": 4, "depth": 4},
    img_size=32,
    classes=6,
    forget=8,
    retain=16,
    unseen=16,
    test=16,
    batch_size=32,
)


def methods(epochs: int = EPOCHS) -> dict[str, Method]:
    """Return the nine methods that unlearn, by name, all of so many epochs."""
    own = {"ssd": {}, "scrub": {"msteps": 1}, "salun": {}}
    # LoTUS would stop early where the student is as inaccurate as on unseen images.
    own["lotus"] = {"class_unlearning": True}
    names = [name for name in METHODS if name not in ("original", "gold")]
    made = {}
    for name in names:
        settings: dict[str, object] = dict(own.get(name, {}))
        if name == "salun":
            settings["inner"] = METHODS["relabel"](epochs=epochs)  # type: ignore[call-arg]
        elif name != "ssd":
            settings["epochs"] = epochs
        made[name] = METHODS[name](**settings)
    return made


def measure(
    names: Sequence[str], repeats: int, sizes: Sizes = SIZES
) -> tuple[dict[str, Figure], dict[str, float]]:
    """Measure some methods against their floors; their forwards; and, of all nine, evaluation.

    Args:
        names: of methods.
        repeats: of each measurement, after one that warms up.
        sizes: of the problem.

    Returns:
        Figures by scoreboard id, and seconds by name.
    """
    keep_freed_memory()
    bench = Bench(build(sizes, torch.device("cpu")).compute_logits())
    chosen = {name: method for name, method in methods().items() if name in names}
    works: dict[str, Callable[[], float]] = {
        name: lambda name=name, method=method: bench.ratio(name, method)  # type: ignore[misc]
        for name, method in chosen.items()
    }
    works["evaluate"] = bench.evaluation_ratio
    ratios = medians(repeats, **works)
    figures = {
        f"floor.{name}": Figure(f"{_about(name)} ÷ its floor", ratio, AT_MOST, False, repeats)
        for name, ratio in ratios.items()
    }
    if chosen:
        figures["C10.forwards"] = bench.worst_forwards(repeats)
    rates = {name: statistics.median(values[1:]) for name, values in bench.seconds.items()}
    return figures, rates


def _about(name: str) -> str:
    return "one pass of evaluation" if name == "evaluate" else f"{METHODS[name].label}: unlearning"


@dataclass
class Bench:
    """One stage on which methods run in turn with their floors."""

    stage: Stage
    seconds: dict[str, list[float]] = field(default_factory=dict)
    forward_ratios: dict[str, float] = field(default_factory=dict)
    bare: Bare = field(init=False)

    def __post_init__(self) -> None:
        dataset = self.stage.dataset
        [batch] = dataset.batches([np.arange(len(dataset.roles))], [len(dataset.roles)], None)
        self.bare = Bare(self.stage.bare(), batch.images, batch.labels)

    @property
    def samples(self) -> Samples:
        """Return how many samples there are."""
        sizes, dataset = self.stage.sizes, self.stage.dataset
        return Samples(
            sizes.classes,
            len(dataset.split(FORGET)),
            len(dataset.split(RETAIN)),
            sizes.batch_size,
            dataset.evaluation_rows,
        )

    def ratio(self, name: str, method: Method) -> float:
        """Run the floor, then the method; return method ÷ floor."""
        passes = needed(method, self.samples)
        with ForwardCounter().counting() as counted:
            problem = self.stage.problem(counted)
            ratio = self._ratio(
                name, lambda: self.bare.run(passes), lambda: unlearn(method, problem)
            )
        self.forward_ratios[name] = (counted.images[STUDENT] + counted.images[TEACHER]) / forwards(
            passes
        )
        return ratio

    def evaluation_ratio(self) -> float:
        """Run a bare forward pass over all splits, then the evaluation; return the ratio."""
        dataset = self.stage.dataset
        passes = [self.samples.look(len(dataset.split(role))) for role in ROLES]
        found: list[Outputs] = []
        ratio = self._ratio(
            "evaluate",
            lambda: self.bare.run(passes),
            lambda: found.append(evaluated(self.stage)),
        )
        taken = seconds_of(lambda: summarise(found[0], found[0]))
        self.seconds.setdefault("summarise, s", []).append(taken)
        return ratio

    def worst_forwards(self, repeats: int) -> Figure:
        """Return the largest images forward ÷ necessary ones, of the methods that ran."""
        worst = max(self.forward_ratios, key=lambda name: self.forward_ratios[name])
        about = f"images forward, of student and teachers, ÷ necessary ones: worst, {worst}"
        return Figure(about, self.forward_ratios[worst], MOST_FORWARDS, False, repeats)

    def _ratio(self, name: str, floor: Callable[[], object], ours: Callable[[], object]) -> float:
        bare, taken = seconds_of(floor), seconds_of(ours)
        self.seconds.setdefault(f"{name}, s", []).append(taken)
        self.seconds.setdefault(f"{name}, floor, s", []).append(bare)
        return taken / bare


def evaluated(stage: Stage) -> Outputs:
    """Evaluate a stage's original over all splits, as a group does a cell's model."""
    dataset = stage.dataset
    return evaluate(
        stage.original,
        {role: dataset.split(role) for role in ROLES},
        roles=np.array(STORED)[dataset.roles.roles],
        labels=dataset.roles.labels,
        num_classes=stage.sizes.classes,
        device=dataset.device,
        workers=dataset.workers,
    )
