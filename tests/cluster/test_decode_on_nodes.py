"""One decode for three nodes: a node of free CPUs decodes what the workers of the others want."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray")

from tests.cluster.decode_on_nodes import drawn
from tests.cluster.test_losing_nodes import cluster_of

pytestmark = pytest.mark.cluster
SCRIPT = Path(__file__).with_name("decode_on_nodes.py")


def test_each_image_is_decoded_once_and_free_cpus_take_what_workers_leave(tmp_path: Path) -> None:
    """First, workers that lend no CPU want one seed; then workers that lend theirs want two more.

    Each node keeps files of its own, so what it did not decode comes from the store. The images of
    a last seed are brought to a node by the node of free CPUs before they are wanted. Images that
    stream are decoded by free CPUs; where none is free, by the workers, who wait for nobody.
    """
    with cluster_of(3) as (nodes, head):
        ids = nodes.about["nodes"]
        log = tmp_path / "log"
        process = head.start(sys.executable, str(SCRIPT), str(tmp_path), *ids[:2], log=log)
        assert process.wait(340) == 0, log.read_text()
    first, second, ahead, *streams = (
        json.loads(line) for line in log.read_text().splitlines() if line[:1] == "{"
    )
    unique = set(drawn(0).sample_ids)
    assert first["by_node"][ids[2]] > len(unique) / 2  # a task that waits in Ray lends its CPU too
    assert sum(first["by_node"].values()) == len(unique)
    assert sum(first["decoded"]) == len(unique)
    unique |= {*drawn(1).sample_ids, *drawn(2).sample_ids}
    assert sum(second["by_node"].values()) == len(unique)  # of six times 120 images
    assert sum(first["decoded"]) + sum(second["decoded"]) == len(unique)
    assert set(second["by_node"]) >= set(ids[:2])
    assert first["right"]
    assert second["right"]
    assert ahead["new"] > 0
    assert ahead["late"] == 0  # all images were on the node before the group was opened
    assert ahead["by_node"] == {ids[2]: ahead["new"]}
    answers = [[[0, True]], [[len(drawn(0)), True]] * 3, [[len(drawn(0)), True]] * 3]
    assert [each["streamed"] for each in streams] == answers
