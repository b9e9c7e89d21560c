"""What groups cost and in which order they start, by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lotus_ray.base.roles import OTHER_TRAIN
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import SOURCES
from lotus_ray.job import cell_work
from lotus_ray.job.cell_work import cell_units, sizes_of
from lotus_ray.job.cells import Cell, CellGroup
from lotus_ray.job.cost import (
    LEARNED,
    SCALED,
    TABLED,
    cell_costs,
)
from lotus_ray.job.load import load_job
from lotus_ray.job.method_spec import build_method
from lotus_ray.job.networks import compare_costs, networks
from lotus_ray.job.plan import plan
from lotus_ray.job.rates import Device, likely_device
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.store.row import Resources, Row
from lotus_ray.unlearning.method import Method
from tests.toy import table

JOB = Path(__file__).parents[2] / "jobs" / "digits.yaml"
METHODS = "grid.methods=[original, {name: finetune, epochs: 2}, ssd, {name: salun, inner: relabel}]"


def planned_group(tmp_path: Path) -> CellGroup:
    data = prepare(SOURCES["digits"], tmp_path / "digits")
    train = "grid.models.0.train={epochs: 4}"
    loaded = load_job(JOB, [METHODS, "epochs=3", train, "grid.seeds=[1]"])
    return plan(loaded, [data]).groups[0]


def work_order_of(group: CellGroup, *labels: str) -> WorkOrder:
    missing = {cell.cell_id: 0 for cell in group.cells if cell.label in labels}
    return WorkOrder(group, missing, "store")


def test_a_recipe_trains_on_other_images_too(tmp_path: Path) -> None:
    """10 further training images: the original's epochs have 16, 4·3·16 + 10; gold's have 14."""
    group, roles = planned_group(tmp_path), table("ffrrrruuut")
    sizes = {**sizes_of(roles), OTHER_TRAIN: 10}
    recipe = group.original.spec["method"]
    gold = Cell("Gold Std", {**group.original.spec, "method": {**recipe, "name": "gold"}})
    assert cell_units(group.original, group, sizes) == 202
    assert cell_units(gold, group, sizes) == 4 * 3 * 14 + 10


CPU = Device("cpu", "A")


def row(group: CellGroup, label: str, seconds: float, **changes: Any) -> Row:
    """Return an ok row of a cell; a fifth of its seconds is prepared and evaluated."""
    (cell,) = [cell for cell in group.cells if cell.label == label]
    timing = {"prepare": 0.1, "unlearn": 0.8, "evaluate": 0.1, "checkpoint": 5.0}
    fields: dict[str, Any] = {
        **group.labels,
        "status": "ok",
        "method": label,
        "spec": cell.spec,
        "timing": {f"{name}_seconds": share * seconds for name, share in timing.items()},
        "resources": Resources(device="A", device_type="cpu", workers=1),
    }
    return Row(**{**fields, **changes})


def costs_of(group: CellGroup, *rows: Row, device: Device = CPU) -> dict[str, tuple[float, str]]:
    """Return seconds and source by label, of all cells; a forward is a million FLOP."""
    order = work_order_of(group, *(cell.label for cell in group.cells))
    tables, by_id = {group.roles_name: table("ffrrrruuut")}, {str(n): r for n, r in enumerate(rows)}
    costs = cell_costs([order], tables, [1e6], by_id, device)
    found = {cell.label: costs[cell.cell_id] for cell in group.cells}
    return {label: (cost.seconds, cost.source) for label, cost in found.items()}


def test_a_cost_is_the_median_of_rows_of_its_kind(tmp_path: Path) -> None:
    """Of 3, 4 and 20 s it is 4; two workers that took 2 s each are 4 s. No other row counts."""
    group = planned_group(tmp_path)
    here = Resources(device="A", device_type="cpu", workers=1)
    good = [row(group, "SSD", seconds) for seconds in (3.0, 20.0)]
    good.append(row(group, "SSD", 2.0, resources=replace(here, workers=2)))
    others: list[dict[str, Any]] = [
        {"status": "failed"},
        {"setting": "class_1"},
        {"benchmark": "other"},
        {"model": "other"},
        {"spec": {**good[0].spec, "precision": "bf16"}},
        {"spec": {**good[0].spec, "method": {"name": "ssd", "epochs": 9}}},
        {"resources": replace(here, device="B")},
        {"resources": replace(here, device_type="cuda")},
        {"timing": {}},
    ]
    bad = [row(group, "SSD", 1000.0, **changes) for changes in others]
    assert costs_of(group, *good, *bad)["SSD"] == (pytest.approx(4.0), LEARNED)
    assert costs_of(group, *bad)["SSD"][1] == TABLED


def test_a_method_without_rows_runs_as_fast_as_the_others(tmp_path: Path) -> None:
    """SSD's 28 forwards in 7 s and Finetuning's 34 in 17 s: 4 and 2 a second, 3 in the median.

    SalUn's 70 take 70/3 s, and the original's 82 take 82/3.
    """
    group = planned_group(tmp_path)
    assert costs_of(group, row(group, "SSD", 7.0), row(group, "Finetuning", 17.0)) == {
        "Original": (pytest.approx(82 / 3), SCALED),
        "Finetuning": (pytest.approx(17.0), LEARNED),
        "SSD": (pytest.approx(7.0), LEARNED),
        "SalUn": (pytest.approx(70 / 3), SCALED),
    }


def test_rows_of_the_same_network_go_first(tmp_path: Path) -> None:
    """SSD's 28 forwards are 4 a second on one network and 1 on the other, 2.5 in the median.

    SalUn has 70 of them.
    """
    one = planned_group(tmp_path)
    two, new = (
        replace(one, model_label=name, cells=tuple(named(cell, name) for cell in one.cells))
        for name in ("two", "new")
    )
    rows = {"a": row(one, "SSD", 7.0), "b": row(two, "SSD", 28.0)}
    orders = [work_order_of(group, "SalUn") for group in (one, two, new)]
    costs = cell_costs(orders, {one.roles_name: table("ffrrrruuut")}, [1.0] * 3, rows, CPU)
    seconds = [cost.seconds for cost in costs.values()]
    assert seconds == pytest.approx([70 / 4, 70 / 1, 70 / 2.5])


def named(cell: Cell, model: str) -> Cell:
    """Return the same cell of another network."""
    return Cell(cell.label, {**cell.spec, "model": model})


@pytest.mark.parametrize(
    ("device", "precision", "rate"),
    [
        (CPU, "fp32", 15e9),
        (Device("cuda"), "fp32", 14.59e12),
        (Device("cuda", "NVIDIA RTX A6000"), "bf16", 14.59e12),
        (Device("cuda", "NVIDIA H200"), "bf16", 296.85e12),
        (Device("cuda", "NVIDIA H200"), "fp32", 14.59e12),
    ],
)
def test_without_rows_a_rate_of_the_device_decides(
    device: Device, precision: str, rate: float, tmp_path: Path
) -> None:
    """3 · 3 · 45,000 · 35.1 GFLOP in 16.24 min, and 30 % of 989.5 TFLOP/s. SSD has 28 forwards."""
    group = replace(planned_group(tmp_path), precision=precision)
    assert costs_of(group, device=device)["SSD"] == (pytest.approx(28e6 / rate, rel=1e-3), TABLED)


def test_the_device_is_that_of_the_newest_row() -> None:
    rows = [
        Row(status=status, committed_at=when, resources=Resources(device=name, device_type=kind))
        for status, when, name, kind in (
            ("ok", "2026-01-02T00:00:00+00:00", "new", "cpu"),
            ("ok", "2026-01-01T00:00:00+00:00", "old", "cpu"),
            ("failed", "2026-01-03T00:00:00+00:00", "failed", "cpu"),
            ("ok", "2026-01-04T00:00:00+00:00", "GPU", "cuda"),
        )
    ]
    assert likely_device("cpu", rows) == Device("cpu", "new")
    assert likely_device("cuda", rows) == Device("cuda", "GPU")
    assert likely_device("cpu", []) == Device("cpu")


def test_costs_of_a_thousand_cells_build_each_method_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """31 cells of 4 methods × 30 seeds."""
    built: list[str] = []

    def build(spec: Mapping[str, Any]) -> Method:
        built.append(spec["name"])
        return build_method(spec)

    monkeypatch.setattr(cell_work, "build_method", build)
    cell_work._method_units.cache_clear()
    group = planned_group(tmp_path)
    cells = [group.cells[number % 4] for number in range(31)]
    groups = [
        replace(
            group,
            cells=tuple(named(cell, f"{seed} {number}") for number, cell in enumerate(cells)),
        )
        for seed in range(30)
    ]
    orders = [WorkOrder(each, {cell.cell_id: 0 for cell in each.cells}, "s") for each in groups]
    tables = {group.roles_name: table("fr" * 30_000)}
    assert len(cell_costs(orders, tables, [1.0] * 30, {}, CPU)) == 930
    assert sorted(built) == ["finetune", "original", "salun", "ssd"]


def test_a_forward_is_counted_on_nothing_but_shapes(tmp_path: Path) -> None:
    """The ResNet-18 of width 1 on 8 × 8 pixels and 10 classes, two FLOP a product.

    Stem: 64 places · 27 · 1. Stage 1 (64 places, 1 -> 1): 4 · 64 · 9. Stages 2 to 4 halve the side
    and double the channels w: with p places, a first convolution p · 9 · w²/2, three of p · 9 · w²
    and a shortcut p · w²/2. Head: 8 · 10.
    """
    group = planned_group(tmp_path)
    stages = sum(
        places * (9 * w * w // 2 + 3 * 9 * w * w + w * w // 2)
        for places, w in ((16, 2), (4, 4), (1, 8))
    )
    products = 64 * 27 + 4 * 64 * 9 + stages + 8 * 10
    narrow, wide = (
        networks([replace(group, model=replace(group.model, options={"width": width}))])[0]
        for width in (1, 2)
    )
    costs = compare_costs([narrow, wide, narrow])
    assert costs == [2 * products, costs[1], 2 * products]
    assert 3 < costs[1] / costs[0] < 4
    assert compare_costs([narrow, narrow]) == [1, 1]
