"""What Ray's object store may still take, read from a Ray that runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("ray")

from tests.cluster.clusters import head

MIB = 1 << 20
# Ray's folder is one of the test's own, so that no other Ray's store counts.
PROGRAM = """
import sys
from pathlib import Path
import numpy as np
import ray
from lotus_ray.base.free_memory import unallocated_store

ray.init(sys.argv[1], log_to_driver=False, logging_level="ERROR")
before = unallocated_store(Path(sys.argv[2]))
kept = ray.put(np.ones(40 << 20, np.uint8))
print(before, unallocated_store(Path(sys.argv[2])))
"""


@pytest.mark.cluster
def test_it_is_what_the_store_has_less_what_objects_took(tmp_path: Path) -> None:
    with head("--num-cpus", "1", "--plasma-directory", str(tmp_path)) as cluster:
        ended = cluster.run(sys.executable, "-c", PROGRAM, cluster.address, str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    before, after = map(int, ended.stdout.splitlines()[-1].split())
    assert 140 * MIB < before < 160 * MIB  # of 150 MiB
    assert 39 * MIB < before - after < 42 * MIB
