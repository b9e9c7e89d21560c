"""Defects of the published figures, and the figures that each one affects.

They come from reading the published code. Figures are shown as printed, with footnotes.
"""

from __future__ import annotations

from dataclasses import dataclass

_ACCURACIES = ("mia_acc", "forget_acc", "retain_acc", "test_acc")
_DIVERGENCES = ("jsd_x1e4", "rf_jsd_x1e4")
_IMAGENET = "ImageNet-1K"
_TRAINED = ("CIFAR-10", "CIFAR-100", "TinyImageNet", "MUFAC")


@dataclass(frozen=True)
class Defect:
    """A defect and the figures that it affects. An empty field does not restrict them.

    Methods restrict it to lines, metrics to columns, both to single figures.
    """

    text: str
    methods: tuple[str, ...] = ()  # labels: SalUn means SalUn(RL) and SalUn(LoTUS)
    metrics: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    benchmarks: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()  # prefixes

    @property
    def is_general(self) -> bool:
        """True if the defect affects all figures of a table."""
        return not (self.methods or self.metrics)

    def touches_table(self, benchmark: str, model: str, setting: str) -> bool:
        """Return True if the defect affects any figure of a table."""
        return (
            (not self.benchmarks or benchmark in self.benchmarks)
            and (not self.models or model in self.models)
            and (not self.settings or setting.startswith(self.settings))
        )

    def touches(self, label: str, metric: str) -> bool:
        """Return True if the defect affects a figure, given that it affects the table."""
        return (not self.methods or label in self.methods) and (
            not self.metrics or metric in self.metrics
        )


DEFECTS = (
    Defect(
        "computed over the full matrix: it is normalised by its total, and the mean is divided by "
        "the number of rows once more; the measured line shows the same value",
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
    Defect("the forget set came first and was not mixed with the rest", methods=("Bad Teacher",)),
    Defect(
        "the teacher that should be random has a pretrained backbone",
        methods=("Bad Teacher",),
        models=("ViT", "ViT-B/16"),
    ),
    Defect(
        "the optimizer held another copy of the model: the returned one is the original",
        methods=("SCRUB",),
    ),
    Defect("applied once per epoch instead of once", methods=("SSD",)),
    Defect("one noise step instead of five", methods=("UNSIR",)),
    Defect(
        "the mask was ignored in the repair pass, and all runs shared one mask file",
        methods=("SalUn",),
    ),
    Defect(
        "accuracies rounded to two decimals set the temperature and the stop", methods=("LoTUS",)
    ),
    Defect(
        "the forget set is the first part of each class, for every seed",
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
