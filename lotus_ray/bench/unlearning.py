"""Compare every method and the evaluation with the bare network: seconds and forwards."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from lotus_ray.base.memory import keep_freed_memory
from lotus_ray.base.roles import FORGET, RETAIN, ROLES, STORED
from lotus_ray.bench.bare import BareNetwork
from lotus_ray.bench.generated import Sizes, Stage, build
from lotus_ray.bench.scoreboard import Measurements, Score
from lotus_ray.bench.timing import medians, seconds_of
from lotus_ray.job.floors import needed
from lotus_ray.job.passes import Samples, forwards
from lotus_ray.metrics.evaluation import evaluate
from lotus_ray.metrics.outputs import Outputs
from lotus_ray.metrics.summary import summarise
from lotus_ray.models.layout import blocks_of
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.forward_counter import STUDENT, TEACHER, ForwardCounter
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods import METHODS

MOST_TIME, MOST_FORWARDS = 1.10, 1.02  # ratios to the floor
EVALUATION = "evaluate"
EPOCHS = 3  # as in the ImageNet benchmark

# The passes of this network dominate its time: 65 tokens of 192 numbers, 1.8 M weights.
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
    """Return the methods that unlearn, by name, all with the same number of epochs."""
    settings: dict[str, dict[str, object]] = {
        name: {"epochs": epochs} for name in METHODS if name not in ("original", "gold")
    }
    settings["ssd"] = {"alpha": 2.0}  # a third is forgotten: from 3 on, nothing is selected
    settings["scrub"]["msteps"] = 1
    settings["salun"] = {"inner": METHODS["relabel"](epochs=epochs)}  # type: ignore[call-arg]
    settings["lotus"]["class_unlearning"] = True  # LoTUS would stop early on an untrained original
    settings["sfron"] = {"steps": 9}
    settings["jit"] = {}
    # One step spends the radius. More epochs, as the floor guesses how many images are attacked.
    settings["amun"] = {"epochs": 2 * epochs, "attack_steps": 1, "radius": 100.0}
    settings["certified_noise"] |= {"gradient_clip": 0.1, "noise_steps": 1, "renyi": 1e6}
    return {name: METHODS[name](**chosen) for name, chosen in settings.items()}


def measure(names: Sequence[str], repeats: int, sizes: Sizes = SIZES) -> Measurements:
    """Measure some methods, and the evaluation, against their floors.

    Args:
        names: of methods.
        repeats: of each measurement, after one to warm up.
        sizes: of the problem.

    Returns:
        Scores by name; seconds as rates.
    """
    keep_freed_memory()
    bench = Bench(build(sizes, torch.device("cpu")).compute_logits())
    chosen = {name: method for name, method in methods().items() if name in names}
    works: dict[str, Callable[[], float]] = {
        name: lambda name=name, method=method: bench.ratio(name, method)  # type: ignore[misc]
        for name, method in chosen.items()
    }
    works[EVALUATION] = bench.evaluation_ratio
    ratios = medians(repeats, **works)
    scores = {
        f"{name}_time_vs_bare_network": Score(
            f"floor.{name}", f"{_about(name)} ÷ its passes", ratio, MOST_TIME, False, repeats
        )
        for name, ratio in ratios.items()
    }
    if chosen:
        scores["forwards_vs_necessary"] = bench.worst_forwards(repeats)
    rates = {name: statistics.median(values[1:]) for name, values in bench.seconds.items()}
    return Measurements(scores, rates)


def _about(name: str) -> str:
    label = "one evaluation" if name == EVALUATION else METHODS[name].label
    return f"seconds of {label}"


@dataclass
class Bench:
    """One stage. Methods and their floors run on it in turn."""

    stage: Stage
    seconds: dict[str, list[float]] = field(default_factory=dict)  # by name of a rate
    forward_ratios: dict[str, float] = field(default_factory=dict)  # by method
    bare: BareNetwork = field(init=False)

    def __post_init__(self) -> None:
        dataset = self.stage.dataset
        [batch] = dataset.batches([np.arange(len(dataset.roles))], [len(dataset.roles)], None)
        model = self.stage.bare()
        self.bare = BareNetwork(model, batch.images, batch.labels, blocks_of(model))

    @property
    def samples(self) -> Samples:
        """Sizes of the problem."""
        return samples_of(self.stage)

    def ratio(self, name: str, method: Method) -> float:
        """Run the floor, then the method; return seconds of the method ÷ seconds of the floor."""
        passes = needed(method, self.samples)
        with ForwardCounter().counting() as counted:
            problem = self.stage.problem(counted)
            ratio = self._ratio(
                name, lambda: self.bare.run(passes), lambda: unlearn(method, problem)
            )
        images = counted.images[STUDENT] + counted.images[TEACHER]
        self.forward_ratios[name] = images / forwards(passes)
        return ratio

    def evaluation_ratio(self) -> float:
        """Run bare forward passes over all roles, then the evaluation; return the ratio."""
        dataset = self.stage.dataset
        passes = [self.samples.evaluate(len(dataset.split(role))) for role in ROLES]
        outputs: list[Outputs] = []
        ratio = self._ratio(
            EVALUATION,
            lambda: self.bare.run(passes),
            lambda: outputs.append(evaluated(self.stage)),
        )
        seconds = seconds_of(lambda: summarise(outputs[0], outputs[0]))
        self.seconds.setdefault("summarise, s", []).append(seconds)
        return ratio

    def worst_forwards(self, repeats: int) -> Score:
        """Return the largest ratio of images forward ÷ necessary ones over the methods."""
        worst = max(self.forward_ratios, key=lambda name: self.forward_ratios[name])
        about = f"images forward, of student and teachers, ÷ necessary ones: worst, {worst}"
        ratio = self.forward_ratios[worst]
        return Score("C10.forwards", about, ratio, MOST_FORWARDS, False, repeats)

    def _ratio(self, name: str, floor: Callable[[], object], work: Callable[[], object]) -> float:
        floor_seconds, seconds = seconds_of(floor), seconds_of(work)
        self.seconds.setdefault(f"{name}, s", []).append(seconds)
        self.seconds.setdefault(f"{name}, floor, s", []).append(floor_seconds)
        return seconds / floor_seconds


def samples_of(stage: Stage) -> Samples:
    """Return the sizes of a stage's problem."""
    dataset = stage.dataset
    return Samples(
        stage.sizes.classes,
        len(dataset.split(FORGET)),
        len(dataset.split(RETAIN)),
        stage.sizes.batch_size,
        dataset.evaluation_rows,
    )


def evaluated(stage: Stage) -> Outputs:
    """Evaluate a stage's original over all roles, as a group evaluates a model."""
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
