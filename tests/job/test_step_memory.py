"""The estimate of a step's memory against what autograd saves on a CPU, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from torch.nn import functional

from lotus_ray.base.errors import JobError, LotusRayError
from lotus_ray.cli.main import main
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import SOURCES
from lotus_ray.grid.missing import missing
from lotus_ray.grid.options import Options
from lotus_ray.job.load import load_job
from lotus_ray.job.networks import Network
from lotus_ray.job.plan import plan
from lotus_ray.job.schema.resources import Resources
from lotus_ray.job.step_fit import GIB, Step, choose_part, usable_bytes
from lotus_ray.job.step_memory import StepMemory, saved_bytes, step_memory
from lotus_ray.models import ModelSpec, build
from lotus_ray.store.results import Store
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.finetune import Finetune
from lotus_ray.unlearning.methods.jit import Jit
from lotus_ray.unlearning.methods.neggrad_plus import NegGradPlus
from lotus_ray.unlearning.methods.scrub import Scrub
from lotus_ray.unlearning.methods.sfron import Sfron

TINY = Network(ModelSpec("vit_tiny_patch16_224", 10, options={"img_size": 64}), None, 64)
RESNET = Network(ModelSpec("resnet18", 10), None, 64)
JOBS = Path(__file__).parents[2] / "jobs"
# A made-up network: 1 GiB of weights, 1/8 GiB an image.
EVEN = StepMemory(GIB, 0, GIB // 8, 0, 0, None, is_random=False)
GPU = Resources(gpus_per_worker=1, gpu_memory_gb=24)


@pytest.mark.parametrize("network", [TINY, RESNET])
def test_saved_bytes_are_those_of_a_cpu(network: Network) -> None:
    """For 6 images, of which the estimate has seen 2 and 4."""
    model = build(network.model, "test").train()
    images = torch.zeros(6, 3, 64, 64)
    with saved_bytes([*model.parameters(), *model.buffers(), images]) as saved:
        functional.cross_entropy(model(images), torch.zeros(6, dtype=torch.int64))
    memory = step_memory(network, "fp32")
    measured = sum(saved.values())
    assert memory.fixed + 6 * memory.per_image == pytest.approx(measured, rel=0.01)
    state = [*model.parameters(), *model.buffers()]
    assert memory.weights == sum(value.numel() * value.itemsize for value in state)


def test_half_precision_saves_less() -> None:
    full, half = (step_memory(TINY, precision) for precision in ("fp32", "bf16"))
    assert 0.4 * full.per_image < half.per_image < 0.8 * full.per_image


def test_a_network_says_what_keeps_it_from_parts() -> None:
    assert step_memory(RESNET, "fp32").norm == "bn1"
    plain = step_memory(TINY, "fp32")
    assert (plain.norm, plain.is_random) == (None, False)
    for option in ({"drop_rate": 0.1}, {"drop_path_rate": 0.1}, {"attn_drop_rate": 0.1}):
        spec = replace(TINY.model, options={**TINY.model.options, **option})
        assert step_memory(replace(TINY, model=spec), "fp32").is_random, option


def test_vit_b_16_fits_24_gib_in_parts() -> None:
    """256 images in fp32: 113 MiB of saved activations each, measured on a CPU."""
    network = Network(ModelSpec("torchvision/vit_b_16", 10), None, 224)
    memory = replace(step_memory(network, "fp32"), is_random=False)
    assert memory.per_image / 2**20 == pytest.approx(112.1, rel=0.01)
    step = Step(Scrub(), 256, 1, memory)
    limit = usable_bytes(GPU)
    assert limit is not None
    assert step.bytes() > 28 * GIB > limit
    part = choose_part([step], GPU)
    assert part == 128
    assert step.bytes(part) <= limit


def steps(*methods: Method, memory: StepMemory = EVEN, workers: int = 1) -> list[Step]:
    """Return the steps of methods with 128 images."""
    return [Step(method, 128, workers, memory) for method in methods]


def test_a_step_adds_up() -> None:
    """Model, original, gradients and momentum: 4 GiB; and 16 GiB of 128 images."""
    assert steps(Finetune())[0].bytes() == pytest.approx(1.05 * 20 * GIB)
    assert steps(Finetune())[0].bytes(64) == pytest.approx(1.05 * 12 * GIB)
    assert steps(NegGradPlus())[0].bytes() == pytest.approx(1.05 * 36 * GIB)
    assert steps(Scrub(), workers=2)[0].bytes() == pytest.approx(1.05 * 13 * GIB)


def test_auto_takes_the_largest_power_of_two_that_fits() -> None:
    """21.0 GiB are free: 20.0 without fragments, 16 beside 4 of weights, 15 beside Adam's 5."""
    assert choose_part(steps(Finetune()), GPU) is None
    assert choose_part(steps(Finetune(), Scrub()), GPU) == 64
    assert choose_part(steps(Scrub()), Resources(gpus_per_worker=1)) is None  # memory unknown
    random = replace(EVEN, is_random=True)
    assert choose_part(steps(Scrub(), memory=random), GPU) is None  # halved when it runs out


def refused(of: list[Step], **resources: object) -> LotusRayError:
    """Return the error that steps are refused with."""
    with pytest.raises(LotusRayError) as raised:
        choose_part(of, GPU.model_copy(update=resources))
    return raised.value


def test_what_cannot_fit_is_refused_with_what_would() -> None:
    assert refused(steps(Scrub()), micro_batch=128).nearest == "micro_batch: 64"
    normed = steps(Scrub(), memory=replace(EVEN, norm="bn1"))
    error = refused(normed)
    assert error.where == "batch_size"
    rows = int(error.nearest.removeprefix("batch_size: ").removesuffix(" for scrub"))
    limit = usable_bytes(GPU)
    assert limit is not None
    assert replace(normed[0], batch_size=rows).bytes() <= limit
    assert replace(normed[0], batch_size=rows + 1).bytes() > limit
    assert "bn1" in error.what
    assert "SFRon" in refused(steps(Sfron(), memory=EVEN)).what
    assert refused(steps(Scrub()), gpu_memory_gb=4.0).nearest == "a GPU with more memory"
    random = steps(Scrub(), memory=replace(EVEN, is_random=True, per_image=GIB), workers=2)
    assert refused(random, workers=2).nearest == "micro_batch: 8"  # two workers do not halve


def test_a_number_is_refused_where_a_step_cannot_split() -> None:
    normed = replace(EVEN, norm="layer1.bn1")
    error = refused(steps(Finetune(), memory=normed), micro_batch=64)
    assert isinstance(error, JobError)
    assert "layer1.bn1" in error.what
    assert choose_part(steps(Jit(), memory=normed), Resources(micro_batch=64)) == 64  # eval mode
    assert choose_part(steps(Finetune(), memory=normed), Resources(micro_batch=128)) == 128


def validate(name: str, *assignments: str, memory: bool = False) -> Result:
    """Run `lotus-ray validate`."""
    settings = [part for each in assignments for part in ("--set", each)]
    flags = ["--memory"] if memory else []
    return CliRunner().invoke(main, ["validate", str(JOBS / name), *settings, *flags])


def test_validate_prints_a_line_for_each_model() -> None:
    assert len(validate("digits.yaml").stdout.splitlines()) == 1
    lines = validate("digits-vit.yaml", memory=True).stdout.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("digits ViT: a step of ")
    assert "GiB" in lines[1]


def test_validate_refuses_what_does_not_fit() -> None:
    resources = "resources={gpus_per_worker: 1, gpu_memory_gb: 0.7}"
    result = validate("digits.yaml", resources, "batch_size=100000")
    assert result.exit_code == 2
    assert "batch_size: " in result.stderr
    assert "GPU of 0.7 GiB" in result.stderr
    given = validate("digits.yaml", "resources.micro_batch=8")
    assert given.exit_code == 2
    assert "bn1" in given.stderr


@pytest.mark.parametrize("value", ["half", "0", "1.5", "true"])
def test_a_wrong_size_is_refused(value: str) -> None:
    result = validate("digits.yaml", f"resources.micro_batch={value}")
    assert result.exit_code == 2
    assert "micro_batch is auto or an integer of at least 1" in result.stderr
    assert "nearest: auto" in result.stderr


def test_a_work_order_holds_the_part(tmp_path: Path) -> None:
    data = prepare(SOURCES["digits"], tmp_path / "digits")
    planned = plan(load_job(JOBS / "digits-vit.yaml"), [data], limit=40)
    store = Store.open(str(tmp_path / "store"))
    for resources, expected in (
        (Resources(), (None, True)),
        (Resources(micro_batch=16), (16, False)),
        (Resources(gpus_per_worker=1, gpu_memory_gb=24), (None, True)),
        (Resources(gpus_per_worker=1, gpu_memory_gb=0.68), (32, True)),
    ):
        [work_order] = missing(planned, store, Options(), resources)
        assert (work_order.micro_batch, work_order.micro_batch_is_auto) == expected
