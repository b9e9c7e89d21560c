"""What a precision changes in a network, and what it must not."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from lotus_ray.base.errors import JobError
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import SOURCES
from lotus_ray.grid import local
from lotus_ray.job.load import load_job
from lotus_ray.job.plan import plan
from lotus_ray.job.schema.resources import Resources
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.models import precision
from lotus_ray.models.precision import PRECISIONS, use_precision
from lotus_ray.models.precision import prepare as prepared
from lotus_ray.models.resnet_cifar import resnet18_cifar
from lotus_ray.store.results import Store
from lotus_ray.store.row import OK, Row

CPU = torch.device("cpu")
JOB = Path(__file__).parents[2] / "jobs" / "digits.yaml"


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = flags


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.GELU(), nn.Linear(8, 3))


@pytest.mark.parametrize("name", PRECISIONS)
def test_weights_answers_and_gradients_have_the_type_of_the_precision(name: str) -> None:
    model = prepared(network(), name, CPU)
    dtype = PRECISIONS[name].dtype
    answer = model(torch.rand(2, 3, 2, 2, dtype=dtype))
    answer.sum().backward()
    assert answer.dtype == dtype
    assert {value.dtype for value in model.parameters()} == {dtype}
    assert {value.grad.dtype for value in model.parameters() if value.grad is not None} == {dtype}


def test_bfloat16_rounds_products_and_float32_does_not() -> None:
    """bfloat16 has 8 significant bits: answers near 1 are off by up to some 2⁻⁸."""
    images = torch.rand(64, 3, 2, 2)
    exact = prepared(network(), "fp32", CPU)(images)
    rough = prepared(network(), "bf16", CPU)(images)
    assert torch.equal(exact, network()(images))
    assert 1e-4 < (exact - rough).abs().max() < 2e-2


def test_a_copy_computes_likewise_with_its_own_weights() -> None:
    model = prepared(network(), "bf16", CPU)
    copied = copy.deepcopy(model)
    images = torch.rand(2, 3, 2, 2)
    assert torch.equal(copied(images), model(images))
    with torch.no_grad():
        for value in copied.parameters():
            value.zero_()
    assert not copied(images).any()
    assert model(images).any()
    assert copied.state_dict().keys() == network().state_dict().keys()


def test_gradients_by_sample_are_those_of_one_sample() -> None:
    """What SSD's importance by sample does: vmap over a functional call."""
    model = prepared(network(), "bf16", CPU)
    state = {name: value.detach() for name, value in model.named_parameters()}
    images = torch.rand(3, 3, 2, 2)

    def loss(parameters: dict[str, torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = functional_call(model, (parameters, {}), (image[None],))
        return answer.logsumexp(dim=1)[0]

    found = vmap(grad(loss), in_dims=(None, 0))(state, images)
    alone = grad(loss)(state, images[1])
    for name, rows in found.items():
        assert rows.dtype == torch.float32
        assert torch.allclose(rows[1], alone[name], atol=1e-2)


def test_only_what_asks_for_it_may_use_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch lets convolutions use it by default; float32 has to mean float32."""
    torch.backends.cudnn.allow_tf32 = True
    use_precision("fp32", CPU)
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    use_precision("bf16", torch.device("cuda"))
    assert torch.backends.cudnn.allow_tf32
    assert torch.backends.cuda.matmul.allow_tf32
    use_precision("fp64", CPU)
    assert not torch.backends.cudnn.allow_tf32


def test_a_device_without_the_numbers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(JobError, match=r"precision tf32 needs a GPU .* and this is a CPU"):
        use_precision("tf32", CPU)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    with pytest.raises(JobError, match=r"precision bf16 needs a GPU .* and this is Tesla T4"):
        use_precision("bf16", torch.device("cuda"))


def test_a_job_that_wants_tf32_of_a_cpu_is_refused_before_it_runs() -> None:
    with pytest.raises(JobError, match="precision tf32 needs a GPU"):
        load_job(JOB, ["precision=tf32"])
    gpus = "resources.gpus_per_worker=1"
    assert load_job(JOB, ["precision=tf32", gpus]).job.precision == "tf32"


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (lambda: resnet18_cifar(num_classes=3, width=2), True),
        (lambda: timm.create_model("convnext_atto", num_classes=3), True),
        (lambda: timm.create_model("test_vit", num_classes=3), False),
    ],
)
def test_which_networks_are_convolutional(model: type[nn.Module], expected: bool) -> None:
    assert precision._is_convolutional(model()) is expected


def rows_in(name: str, folder: Path) -> dict[str, Row]:
    """Run two cells of the digits job in a precision; return rows by method."""
    data = prepare(SOURCES["digits"], folder / "digits")
    quick = ["epochs=1", "grid.models.0.train={epochs: 3, batch_size: 64}", "grid.seeds=[1]"]
    quick.append("grid.models.0.options={width: 4}")  # a CPU is slow in bfloat16
    methods = "grid.methods=[original, salun, {name: lotus, class_unlearning: true}]"
    loaded = load_job(JOB, [*quick, methods, f"precision={name}"])
    planned = plan(loaded, [data], limit=60)
    store = Store.open(str(folder / name))
    for place, roles in planned.roles.items():
        store.put(place, roles.to_parquet())
    (group,) = planned.groups
    local.run_cells(
        [WorkOrder(group, {c.cell_id: 0 for c in group.cells}, store.location)], Resources()
    )
    return {row.method: row for row in store.rows().values()}


def test_a_grid_in_bfloat16_says_so_and_comes_near_float32(tmp_path: Path) -> None:
    """Other cells than those in float32; accuracies of 60 images differ by a few."""
    rough, exact = rows_in("bf16", tmp_path), rows_in("fp32", tmp_path)
    assert {row.status for row in rough.values()} == {OK}
    assert {row.spec["precision"] for row in rough.values()} == {"bf16"}
    assert not {r.cell_id for r in rough.values()} & {r.cell_id for r in exact.values()}
    for method, row in exact.items():
        ours = rough[method]
        assert ours.phases != row.phases
        for name in ("retain_accuracy", "forget_accuracy", "test_accuracy"):
            assert ours.metrics[name] == pytest.approx(row.metrics[name], abs=0.15)
