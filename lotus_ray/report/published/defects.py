"""What is known to be wrong with, or otherwise in, the published figures, and which it touches.

Each was found by reading the published code. Figures stay as they were printed, with footnotes.
"""

from __future__ import annotations

from dataclasses import dataclass

_ACCURACIES = ("mia_acc", "forget_acc", "retain_acc", "test_acc")
_DIVERGENCES = ("jsd_x1e4", "rf_jsd_x1e4")
_IMAGENET = "ImageNet-1K"
_TRAINED = ("CIFAR-10", "CIFAR-100", "TinyImageNet", "MUFAC")


@dataclass(frozen=True)
class Defect:
    """A defect; what is empty is not restricted.

    Of no method and no metric it concerns a whole table; of methods their lines; of metrics their
    columns; of both single figures.
    """

    text: str
    methods: tuple[str, ...] = ()  # labels: SalUn is of SalUn(RL) and SalUn(LoTUS)
    metrics: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    benchmarks: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()  # what they begin with

    @property
    def is_general(self) -> bool:
        """Return whether it concerns all figures of a table."""
        return not (self.methods or self.metrics)

    def touches_table(self, benchmark: str, model: str, setting: str) -> bool:
        """Return whether it concerns any figure of a table."""
        return (
            (not self.benchmarks or benchmark in self.benchmarks)
            and (not self.models or model in self.models)
            and (not self.settings or setting.startswith(self.settings))
        )

    def touches(self, label: str, metric: str) -> bool:
        """Return whether it concerns a figure of a table that it touches."""
        return (not self.methods or label in self.methods) and (
            not self.metrics or metric in self.metrics
        )


DEFECTS = (
    Defect(
        "computed over the whole matrix: it is normalised by its total, and the mean is divided by "
        "its rows once more; the measured line shows that same value",
        metrics=_DIVERGENCES,
    ),
    Defect(
        "evaluated in train mode at batch size 1 for six of the methods: BatchNorm statistics were "
        "overwritten before accuracies and divergences were read (CIFAR-100 retain accuracy .41 "
        "against .93)",
        metrics=(*_DIVERGENCES, "avg_gap", *_ACCURACIES),
        models=("ResNet18",),
    ),
    Defect(
        "of values rounded to two decimals",
        metrics=("avg_gap", *_ACCURACIES),
    ),
    Defect("on an RTX A6000 in FP32", metrics=("time_min",)),
    Defect(
        "adds seconds of preparation to minutes: of the 59.27 min of SalUn on ImageNet-1K about 20 "
        "are true",
        methods=("Bad Teacher", "SalUn"),
        metrics=("time_min",),
    ),
    Defect(
        "the best weights were a reference to the live ones: training that stopped early kept its "
        "last epoch",
        methods=("Original", "Gold Std"),
        benchmarks=_TRAINED,
    ),
    Defect(
        "the sign was flipped before there were gradients: it trained on the forget set",
        methods=("NegGrad+",),
    ),
    Defect(
        "the forget set came first and was not shuffled into the rest", methods=("Bad Teacher",)
    ),
    Defect(
        "the teacher that should be random has a pretrained backbone",
        methods=("Bad Teacher",),
        models=("ViT", "ViT-B/16"),
    ),
    Defect(
        "the optimizer held another copy of the model: the returned one is the original",
        methods=("SCRUB",),
    ),
    Defect("applied once an epoch in place of once", methods=("SSD",)),
    Defect("one noise step in place of five", methods=("UNSIR",)),
    Defect(
        "the mask was ignored in the repair pass, and all runs shared one mask file",
        methods=("SalUn",),
    ),
    Defect(
        "accuracies rounded to two decimals set the temperature and the stop", methods=("LoTUS",)
    ),
    Defect(
        "the forget set is the first of each class whatever the seed",
        settings=("instance_10pct", "instance_50pct", "instance_5perclass"),
    ),
    Defect(
        "4 classes that share their first name with another are not forgotten: crane, "
        "polecat, maillot, missile",
        benchmarks=(_IMAGENET,),
    ),
    Defect(
        "1,062 of the authors' cleaned images; which ones they left out is not published",
        benchmarks=("MUFAC",),
    ),
)
