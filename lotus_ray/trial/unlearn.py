"""`lotus_ray.unlearn`: unlearn in memory, by the engine and the metrics of the grid."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import nn

from lotus_ray.base import plugins
from lotus_ray.base.errors import Diverged, JobError, MethodError, nearest
from lotus_ray.base.roles import FORGET, RETAIN, ROLES, STORED, TEST, UNSEEN
from lotus_ray.data.batches.given import GivenImages, Samples, check_apart
from lotus_ray.data.batches.problem import make_problem
from lotus_ray.job.method_spec import build_method
from lotus_ray.metrics.evaluation import evaluate, evaluate_cached, forget_probs
from lotus_ray.metrics.summary import Summary, summarise
from lotus_ray.report.columns import METRICS
from lotus_ray.trial.given_network import GivenNetwork
from lotus_ray.trial.original_logits import SETS
from lotus_ray.unlearning import engine
from lotus_ray.unlearning.clock import Clock
from lotus_ray.unlearning.find_method import find_method, method_names
from lotus_ray.unlearning.forward_counter import ForwardCounter
from lotus_ray.unlearning.logits_cache import LogitsCache
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods import registered_name
from lotus_ray.unlearning.methods.from_scratch import FromScratch

BATCH_SIZE = 128  # as in jobs
_SHOWN = ("rf_jsd", "forget_acc", "retain_acc", "unseen_acc", "test_acc", "mia_acc")


@dataclass(frozen=True)
class Unlearned:
    """An unlearned network and its metrics, by the names that rows use."""

    model: nn.Module = field(repr=False)  # a copy that is changed, in eval mode
    method: Method
    metrics: Mapping[str, float | None]  # forget_accuracy, mia_accuracy, rf_jsd, …
    before: Mapping[str, float | None]  # the same of the given network
    undefined: Mapping[str, str]  # why a metric is None
    intervals: Mapping[str, Sequence[float]]  # [low, high], 95 % over samples
    seconds: float  # of unlearning, without evaluation

    def __repr__(self) -> str:
        columns = [METRICS[name] for name in _SHOWN]
        shown = [metric for metric in columns if metric.read(self.metrics) is not None]
        lines = [
            ["Method", *(metric.heading for metric in shown), "Time s"],
            ["Original", *(metric.show(metric.read(self.before)) for metric in shown), "-"],
            [
                self.method.title,
                *(metric.show(metric.read(self.metrics)) for metric in shown),
                f"{self.seconds:.1f}",
            ],
        ]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
            for line in lines
        )


def unlearn(
    model: nn.Module,
    forget: Any,
    retain: Any,
    unseen: Any,
    method: str | Method = "lotus",
    *,
    test: Any = None,
    batch_size: int | None = None,
    seed: int = 0,
    new_model: Callable[[], nn.Module] | None = None,
    sample_ids: Mapping[str, Sequence[str]] | None = None,
    pixel_range: tuple[Any, Any] | None = None,
    **hyper: Any,
) -> Unlearned:
    """Make a copy of a network forget some samples. The network itself does not change.

    Samples are a Dataset of (image [C, H, W], label), each item of which is read once and kept in
    memory; or two tensors, images [N, C, H, W] and labels [N]. Images are normalised as the network
    wants them. The same data, seed, ids and hyper-parameters give the weights of a grid's cell.

    Args:
        model: images [N, C, H, W] -> logits [N, classes]; float32 or float64, on a CPU or GPU.
        forget: training samples to forget.
        retain: training samples to keep.
        unseen: samples that the network was not trained on; methods may use them.
        method: a name of `lotus-ray list methods`, or a method.
        test: more samples that it was not trained on, for the metrics alone.
        batch_size: images of a step; default 128, and for gold its own.
        seed: of orders and noise.
        new_model: builds the network with random weights, for gold, bad_teacher, eu_k and the
            metric zrf. Default: every layer resets itself, where all can.
        sample_ids: ids by role, which select the random numbers of each sample. Default: made from
            role and index.
        pixel_range: a black and a white pixel, for methods that change images. Default: the lowest
            and the highest value of each channel.
        hyper: hyper-parameters of the method.

    Returns:
        The unlearned network and its metrics.

    Raises:
        DataError: samples are none, have other shapes or labels, or two roles are not apart.
        JobError: the network cannot be used, or there is no such method.
        MethodError: a hyper-parameter is wrong.
        Diverged: a loss, a weight or an output is NaN or infinite.
    """
    chosen = _method(method, hyper, batch_size)
    given = {FORGET: forget, RETAIN: retain, UNSEEN: unseen} | (
        {} if test is None else {TEST: test}
    )
    samples = [Samples.read(role, each) for role, each in given.items()]
    check_apart(samples)
    with _as_in_a_cell(model):
        network = GivenNetwork(model, samples[0].images, new_model)
        dataset = GivenImages(
            samples,
            network.num_classes,
            seed,
            network.device,
            network.dtype,
            sample_ids,
            pixel_range,
        )
        return _Unlearning(network, dataset, chosen, batch_size or BATCH_SIZE).run()


@dataclass
class _Unlearning:
    """One call of `unlearn`, all inputs of which are right."""

    network: GivenNetwork
    dataset: GivenImages
    method: Method
    batch_size: int

    def run(self) -> Unlearned:
        """Unlearn and evaluate, as a cell does."""
        network, dataset, seed = self.network, self.dataset, self.dataset.seed
        clock = Clock(network.device)
        logits = self._logits()
        with ForwardCounter().counting() as forwards:
            problem = make_problem(
                dataset,
                network.trainable(),
                network.original,
                batch_size=self.batch_size,
                forwards=forwards,
                initial_model=lambda seed: network.fresh(seed, "initial weights"),
                random_model=lambda: network.fresh(seed, "random weights").requires_grad_(False),
                cached_logits=logits,
                head=network.head,
            )
            with clock.measure("unlearn"):
                engine.unlearn(self.method, problem)
            roles = np.array(STORED)[dataset.roles.roles]
            table = (roles, dataset.roles.labels, network.num_classes, network.device)
            splits = {role: dataset.split(role) for role in ROLES}
            outputs = evaluate(problem.model, splits, *table, dataset.workers)
            if not np.isfinite(outputs.entropy).all():
                raise Diverged("outputs are NaN or infinite: the last step diverged")
            original = evaluate_cached(logits, *table)
            why = ""
            try:
                random = forget_probs(problem.random_logits(problem.forget), roles, network.device)
                original = dataclasses.replace(original, random_forget_probs=random)
            except JobError as error:
                why = error.what
        after, before = (_summary(each, original, why) for each in (outputs, original))
        problem.model.zero_grad(set_to_none=True)
        return Unlearned(
            problem.model,
            self.method,
            after.values,
            before.values,
            after.undefined,
            after.intervals,
            clock.seconds["unlearn"],
        )

    def _logits(self) -> LogitsCache:
        """Return the network's logits on every sample, computed in the batches of a grid."""
        network, dataset = self.network, self.dataset
        logits = LogitsCache(
            network.original, len(dataset.roles), network.num_classes, dataset.workers
        )
        for names in SETS:
            if len(samples := dataset.split(*names)):
                logits.compute_missing(samples)
        return logits


def _summary(outputs: Any, original: Any, no_random_network: str) -> Summary:
    """Return the metrics; without a random network, zrf says why it has no value."""
    summary = summarise(outputs, original)
    if no_random_network:
        summary.undefined["zrf"] = no_random_network
    return summary


def _method(method: str | Method, hyper: Mapping[str, Any], batch_size: int | None) -> Method:
    """Return a method with its hyper-parameters.

    Raises:
        JobError: there is no such method, or batches are empty.
        MethodError: a hyper-parameter is unknown or wrong.
    """
    if batch_size is not None and (isinstance(batch_size, bool) or batch_size < 1):
        raise JobError(f"batch_size is {batch_size}, and must be at least 1", where="batch_size")
    if isinstance(method, Method):
        if hyper:
            what = "a method has its hyper-parameters already: give them to it, or give its name"
            raise MethodError(what, where=", ".join(hyper))
        return method
    if isinstance(method, type):
        raise JobError("a class is no method yet", where="method", nearest=f"{method.__name__}(…)")
    name = registered_name(str(method))
    kind = None if name == "original" else find_method(name)
    if kind is None:
        raise JobError(
            "the model is the original already"
            if name == "original"
            else f"unknown method '{method}'{plugins.looked_at()}",
            where="method",
            nearest="gold" if name == "original" else nearest(name, method_names()),
            next_command="lotus-ray list methods",
        )
    params = dict(hyper)
    if batch_size is not None and issubclass(kind, FromScratch):
        params["batch_size"] = batch_size
    valid = [each.name for each in dataclasses.fields(kind)]
    if unknown := [each for each in params if each not in valid]:
        raise MethodError(
            f"unknown hyper-parameter '{unknown[0]}' of {name}",
            where=unknown[0],
            nearest=nearest(unknown[0], valid),
            next_command="lotus-ray list methods",
        )
    if isinstance(params.get("inner"), str):
        params["inner"] = _method(params["inner"], {}, None)
    try:
        return build_method({"name": name, "code": kind.code, **params})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise MethodError(f"{name}: {where}: {first['msg']}", where=where) from None


@contextmanager
def _as_in_a_cell(model: Any) -> Iterator[None]:
    """Let torch compute as in a cell of a grid, and restore the caller's settings at the end.

    They are: random numbers, default dtype and device, gradients, autocast, and TF32.
    """
    values = model.parameters() if isinstance(model, nn.Module) else ()
    is_cuda = any(value.is_cuda for value in values)
    dtype = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast("cpu", enabled=False))
        if is_cuda:
            stack.enter_context(torch.autocast("cuda", enabled=False))
            stack.enter_context(_without_tf32())
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.callback(torch.set_default_dtype, dtype)
        torch.set_default_dtype(torch.float32)
        yield


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Compute products on a GPU in full, as the precision fp32 of a job does."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(matmul, "fp32_precision"):  # torch 2.9: it refuses to read the older flags
        convolutions = cudnn.conv  # type: ignore[attr-defined] # made while torch loads
        flags: list[tuple[Any, str]] = [(each, "fp32_precision") for each in (matmul, convolutions)]
        off: Any = "ieee"
    else:
        flags, off = [(matmul, "allow_tf32"), (cudnn, "allow_tf32")], False
    before = [getattr(*flag) for flag in flags]
    try:
        for flag in flags:
            setattr(*flag, off)
        yield
    finally:
        for flag, value in zip(flags, before, strict=True):
            setattr(*flag, value)
