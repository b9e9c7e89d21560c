"""What groups cost and in which order they start, by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.roles.table import Roles
from lotus_ray.data.sources import SOURCES
from lotus_ray.job.cells import CellGroup
from lotus_ray.job.cost import expected_work, longest_first
from lotus_ray.job.load import load_job
from lotus_ray.job.networks import compare_costs, networks
from lotus_ray.job.plan import plan
from lotus_ray.job.work_order import WorkOrder
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


def test_work_counts_what_missing_cells_train_and_evaluate(tmp_path: Path) -> None:
    """2 images to forget, 4 to retain, 3 unseen, 1 test; a forward costs 10.

    A cell is evaluated on all 10 images, and an epoch of both takes 3 · 6 forwards. Original, 4
    epochs: 82. Finetuning, 2 of the 4: 34. SSD passes once: 28. SalUn's mask, and 3 epochs of Rnd
    Labeling: 6 + 54 + 10 = 70.
    """
    group, roles = planned_group(tmp_path), table("ffrrrruuut")
    work = [
        expected_work(work_order_of(group, label), roles, 10.0)
        for label in ("Original", "Finetuning", "SSD", "SalUn")
    ]
    assert work == [820, 340, 280, 700]
    assert expected_work(work_order_of(group, "SSD", "SalUn"), roles, 1.0) == 28 + 70
    assert expected_work(work_order_of(group), roles, 1.0) == 0


def test_the_longest_group_begins_first_and_equals_keep_their_order(tmp_path: Path) -> None:
    group, roles = planned_group(tmp_path), table("ffrrrruuut")
    short, long = work_order_of(group, "SSD"), work_order_of(group, "Original")
    twin = WorkOrder(replace(group, seed=7), short.row_versions, "store")
    tables: dict[str, Roles] = {group.roles_name: roles}
    assert longest_first([short, long, twin], tables, [1.0, 1.0, 1.0]) == [long, short, twin]
    assert longest_first([short, long, twin], tables, [1.0, 1.0, 9.0])[0] is twin


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
