"""Two workers give the weights of one: every method, in float64."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed

from lotus_ray.bench.method_checks.problems import Small, resnet
from lotus_ray.bench.method_checks.problems import problem as problem_of
from lotus_ray.bench.method_checks.two_workers import join_two, two_differ_from_one
from lotus_ray.unlearning.contract import Workers
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.methods import METHODS
from lotus_ray.unlearning.micro_batch import MicroBatch
from lotus_ray.unlearning.problem import Problem
from tests.forkserver import run_two
from tests.unlearning.test_micro_batch import check_equal, short, weights_after, whole
from tests.unlearning.test_restart import few_epochs

# Steps of one batch, of pairs and of compared images, and a penalty; without batch norm.
# CF-k and EU-k ask for the blocks of a network, and LoTUS is checked on one too. The others are
# checked on a network of two batch norms: a step of the ResNet exchanges for each of twenty.
ON_RESNET = ("cf_k", "eu_k", "lotus")
IN_PARTS = ("finetune", "neggrad_plus", "fcs", "munba", "amun", "unsir", "l1_sparse")


def problem(name: str, workers: Workers | None = None) -> Problem:
    return problem_of(workers, network=resnet if name in ON_RESNET else Small)


def _rank(rank: int, folder: str) -> None:
    """Unlearn by every method as one of two workers; the first one keeps weights and losses."""
    workers = join_two(rank, folder)
    for name in METHODS:
        stage = problem(name, workers)
        records = unlearn(few_epochs(name), stage)
        if rank == 0:
            losses = [record.losses for record in records]
            torch.save((stage.model.state_dict(), losses), Path(folder, f"{name}.pt"))
    for name in IN_PARTS:
        parts = MicroBatch(3, is_auto=False)  # 8 rows a worker: parts of 2, 3 and 3
        weights = weights_after(short(name), parts, workers=workers)
        if rank == 0:
            torch.save((weights, parts.smallest), Path(folder, f"{name} in parts.pt"))
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights and losses of two workers, as NAME.pt."""
    folder = tmp_path_factory.mktemp("two")
    run_two(_rank, str(folder))
    return folder


@pytest.mark.parametrize("name", METHODS)
def test_two_workers_give_the_weights_and_losses_of_one(name: str, of_two: Path) -> None:
    found, losses = torch.load(of_two / f"{name}.pt", weights_only=True)
    stage = problem(name)
    records = unlearn(few_epochs(name), stage)
    assert not two_differ_from_one(found, losses, stage, records)


@pytest.mark.parametrize("name", IN_PARTS)
def test_two_workers_in_parts_give_the_weights_of_one_in_whole(name: str, of_two: Path) -> None:
    found, smallest = torch.load(of_two / f"{name} in parts.pt", weights_only=True)
    assert smallest == 3
    check_equal(found, whole(name))
