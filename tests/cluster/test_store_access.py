"""Whether every node sees the store: nodes are made up, or real."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

import ray

from lotus_ray.base.errors import StoreError
from lotus_ray.cluster import ENVIRONMENT, store_access
from lotus_ray.cluster.store_access import access_error_here, access_errors, check_every_node
from lotus_ray.store.results import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = Store.open(str(tmp_path / "store"))
    opened.check_writable()
    return opened


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_access, "SHOW_SECONDS", 0.2)


def mark(store: Store) -> str:
    found = store.store_id()
    assert found is not None
    return found


def test_nodes_that_all_see_the_store_pass(store: Store) -> None:
    looked: list[tuple[str, str]] = []

    def look(location: str, mark: str) -> dict[str, str]:
        looked.append((location, mark))
        return {
            "10.0.0.1": access_error_here(location, mark),
            "10.0.0.2": access_error_here(location, mark),
        }

    check_every_node(store, mark(store), look)
    assert looked == [(store.location, mark(store))]
    check_every_node(store, mark(store), lambda *_: {})  # one node alone


def test_nodes_that_do_not_see_it_are_named(store: Store, tmp_path: Path) -> None:
    """Two of three have no such folder; a third of the blind has a store of its own there."""
    theirs = Store.open(str(tmp_path / "theirs"))
    theirs.check_writable()

    def look(location: str, mark: str) -> dict[str, str]:
        return {
            "10.0.0.1": access_error_here(location, mark),
            "10.0.0.2": access_error_here(str(tmp_path / "nothing"), mark),
            "10.0.0.3": access_error_here(theirs.location, mark),
        }

    with pytest.raises(StoreError) as caught:
        check_every_node(store, mark(store), look)
    assert caught.value.what == (
        "2 of 3 nodes do not see the store: 10.0.0.2, 10.0.0.3: it is another store, there is none"
    )
    assert (caught.value.where, caught.value.exit_code) == (store.location, 5)
    assert caught.value.nearest.startswith("a folder that every node mounts, s3://")
    assert caught.value.next_command.endswith("--store s3://BUCKET/PREFIX")
    assert not (tmp_path / "nothing").exists()


def test_many_blind_nodes_are_counted(store: Store) -> None:
    with pytest.raises(StoreError, match=r"9 of 9 nodes do not see .*10.0.0.4 and 5 more"):
        check_every_node(
            store, mark(store), lambda *_: {f"10.0.0.{n}": "there is none" for n in range(1, 10)}
        )


def test_what_a_node_lacks_for_a_bucket_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "lotus_ray.store.objects.cloud", raising=False)
    monkeypatch.setitem(sys.modules, "obstore", None)
    assert "needs the package obstore" in access_error_here("s3://bucket/runs", "mark")


def test_a_folder_that_shows_late_on_another_node_passes(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network disk may take a moment."""
    wanted, late = mark(store), tmp_path / "late"
    monkeypatch.setattr(store_access, "SHOW_SECONDS", 5.0)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            shutil.copytree(store.location, late)

    monkeypatch.setattr(time, "sleep", sleep)
    assert access_error_here(str(late), wanted) == ""
    assert len(slept) == 2


@contextmanager
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Run a head that has no CPU, and connect to it."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", f"{Path.cwd()}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    running = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        ray.init(
            address=running.address,
            log_to_driver=False,
            logging_level="critical",
            runtime_env={"env_vars": ENVIRONMENT},
        )
        yield running
    finally:
        ray.shutdown()
        running.shutdown()


@pytest.mark.ray
@pytest.mark.cluster
def test_two_nodes_of_a_cluster_look(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """On one machine nodes share the disk, so that both see the store, and no other."""
    with cluster(monkeypatch) as running:
        assert access_errors(store.location, mark(store)) == {}  # the head alone
        running.add_node(num_cpus=1)
        running.wait_for_nodes()
        looked = access_errors(store.location, mark(store))
        assert list(looked.values()) == ["", ""]
        check_every_node(store, mark(store))
        with pytest.raises(StoreError, match="2 of 2 nodes do not see the store"):
            check_every_node(store, "the mark of another store")


HAS_NAMESPACES = (
    shutil.which("unshare") is not None
    and subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False
    ).returncode
    == 0
)


@pytest.mark.ray
@pytest.mark.cluster
@pytest.mark.skipif(not HAS_NAMESPACES, reason="this user may not mount a disk of its own")
def test_a_node_with_a_disk_of_its_own_is_named(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the store is, the second node has an empty disk, mounted for it alone."""
    folder = Path(store.location).parent
    with cluster(monkeypatch) as running:
        start = f"exec {Path(sys.executable).parent}/ray start --address={running.address}"
        node = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", f"mount -t tmpfs none {folder}; {start} --block"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            end = time.monotonic() + 120
            while len([n for n in ray.nodes() if n["Alive"]]) < 2:
                assert time.monotonic() < end, "the node did not come"
                time.sleep(0.2)
            with pytest.raises(
                StoreError, match=r"1 of 2 nodes do not see the store: .*: there is"
            ):
                check_every_node(store, mark(store))
        finally:
            node.terminate()
            node.wait(timeout=60)
