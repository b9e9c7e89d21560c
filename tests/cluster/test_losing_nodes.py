"""A grid on three nodes, of which one is killed and one is taken away with a notice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from lotus_ray.store import Store
from tests.cluster.clusters import ROOT, Head, ended, processes_of_a_cluster, wait_until

pytestmark = pytest.mark.cluster
SCRIPT = Path(__file__).with_name("three_nodes.py")
SEEDS = 3


class ThreeNodes:
    """Three nodes, the first of them the head."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.about: dict[str, Any] = self._answer()

    def order(self, *words: object) -> Any:
        """Give an order to the cluster; return its answer."""
        assert self._process.stdin
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout
        while line := self._process.stdout.readline():
            if line.startswith(("{", "[", '"')):
                return json.loads(line)
        raise AssertionError("the cluster ended")


@pytest.fixture
def cluster() -> Iterator[tuple[ThreeNodes, Head]]:
    with processes_of_a_cluster() as (folder, environment):
        environment |= {"RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "0.2"}
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        with process, ended(process):
            nodes = ThreeNodes(process)
            yield nodes, Head(nodes.about["address"], folder, environment)


def test_a_grid_survives_its_nodes(cluster: tuple[ThreeNodes, Head], tmp_path: Path) -> None:
    """Three lanes on three nodes: one node is killed, and another one announces that it goes.

    The lane of the first starts its cell anew, having kept no border in its hour; the lane of the
    second goes on from the border that the notice made it keep. All finish on the head. Ray's
    own words about nodes that died are no part of the output.
    """
    nodes, head = cluster
    store, log = tmp_path / "store", tmp_path / "log"
    command = [
        *("lotus-ray", "grid", str(ROOT / "jobs" / "digits.yaml"), "--store", str(store)),
        *("--limit", "143", "--set", "grid.seeds=[1,2,3]"),
        *("--set", "grid.methods=[original, finetune]", "--set", "epochs=2"),
        *("--set", "grid.models.0.train.epochs=150"),
        *("--set", "resources.checkpoint_seconds=3600"),
    ]
    driver = head.start(*command, log=log)
    with ended(driver):
        wait_until(lambda: len(lanes_begun(store)) == SEEDS, driver, log)
        assert nodes.order("kill", 1) == "killed"
        assert nodes.order("drain", 2, 5)[0] is True
        wait_until(lambda: list(store.glob("borders/*/*.pt")), driver, log)
        wait_until(lambda: driver.poll() is not None, log=log)
    lines = log.read_text().splitlines()
    assert driver.returncode == 0, log.read_text()
    rows = list(Store.open(str(store)).rows().values())
    assert [row["status"] for row in rows] == ["ok"] * 2 * SEEDS
    assert len(list(store.glob("rows/*/*.json"))) == len(rows)
    assert sorted(row["attempts"] for row in rows) == [1, 1, 1, 1, 2, 2]
    (resumed,) = [row for row in rows if row["resumed_at_phase"]]
    assert resumed["attempts"] == 2
    waited = [line for line in lines if "waiting for nodes: 2 of 3 lanes have theirs" in line]
    assert len(waited) == 1
    table = lines.index("digits, ResNet18, instance_10pct_smoke143")
    about = ("seed 1: ", "seed 2: ", "seed 3: ", "  waiting for nodes: ", "  all lanes have")
    assert all(any(words in line for words in about) for line in lines[:table])


def lanes_begun(store: Path) -> set[str]:
    """Return the cells of which an attempt has begun, but for those that have a row."""
    begun = {path.parent.parent.name for path in store.glob("attempts/*/*/begun.json")}
    return begun - {path.parent.name for path in store.glob("rows/*/*.json")}
