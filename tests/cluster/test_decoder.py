"""One decode for a cluster: workers of several nodes ask at once. No Ray: calls go straight."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("ray")

from lotus_ray.base.errors import DataError
from lotus_ray.cluster import decoder as module
from lotus_ray.cluster.decode_jobs import run_job
from lotus_ray.cluster.decode_queue import LEASE_SECONDS, DecodeQueue, Job, Progress
from lotus_ray.cluster.decoder import Decoder
from lotus_ray.data.pixels import chunks, transform
from lotus_ray.data.pixels.cache import DecodedFiles
from lotus_ray.data.pixels.cache_space import CacheSpace
from lotus_ray.data.pixels.chunks import ChunkFolder, ChunkRecord, key_of
from lotus_ray.data.pixels.decode_log import DecodeLog
from lotus_ray.data.pixels.decode_task import Decode
from lotus_ray.data.pixels.fetch import kept
from lotus_ray.data.pixels.wanted import wanted_row_groups
from lotus_ray.data.prepared.manifest import Manifest
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.roles.table import Roles
from lotus_ray.data.sources import TRAIN
from lotus_ray.store.results import Store
from tests.toy import PLAIN, Sample, png, source, table

IMAGES = 40
LOG = DecodeLog(Path("/nowhere/log"))


class _Direct:
    """A queue whose calls need no Ray."""

    def __init__(self) -> None:
        self._queue, self._lock = DecodeQueue(), threading.Lock()

    def __getattr__(self, name: str) -> Any:
        def remote(*arguments: Any) -> Any:
            with self._lock:
                return getattr(self._queue, name)(*arguments)

        return SimpleNamespace(remote=remote)


class Cluster:
    """Some nodes with their caches, a store, and one queue."""

    def __init__(self, folder: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = folder / "store"
        self.queue = _Direct()
        self.manifest = manifest
        self._folder = folder
        self._monkeypatch = monkeypatch
        key = key_of([manifest], PLAIN, "session")
        self.folder = ChunkFolder(str(self.store), key, PLAIN, most=4)
        here = SimpleNamespace(get_node_id=lambda: threading.current_thread().name)
        for where in ("lotus_ray.cluster.decoder.ray", "lotus_ray.cluster.decode_jobs.ray"):
            monkeypatch.setattr(f"{where}.get", lambda answer: answer)
            monkeypatch.setattr(f"{where}.get_runtime_context", lambda: here)
        monkeypatch.setattr("lotus_ray.cluster.decoder.ray.get_actor", lambda _: self.queue)
        for where in ("decoder", "decode_jobs"):
            monkeypatch.setattr(f"lotus_ray.cluster.{where}.decode_queue", lambda: self.queue)

    def ask(self, node: str, roles: Roles, decode: Decode | None = None) -> tuple[np.ndarray, int]:
        """Return the pixels of some images on a node, and how many were decoded for them."""
        scratch = self._folder / node
        scratch.mkdir(exist_ok=True)
        space = CacheSpace(0, 10**6, str(scratch), session=f"{len(node):012x}")
        with space.locked():
            files = DecodedFiles(space, PLAIN, "data")
            decoder = Decoder(1, space.decode_log)
            wanted = wanted_row_groups([self.manifest.directory], roles)
            decode = decode or decoder.once(self.folder)
            files.ensure(wanted, roles, decode, waiting=decoder.lending)
            pixels = files.pixels(roles)
            images = np.stack([pixels.image(row) for row in range(len(roles))])
        return images, files.decoded


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manifest]:
    """IMAGES images in row groups of five. Image n is all of level 5 n."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lotus_ray.data.prepared.shard_task.ROWS_PER_GROUP", 5)
        content = [png(np.full((2, 2, 3), 5 * n, np.uint8)) for n in range(IMAGES)]
        samples = [Sample(f"s{n:03d}", TRAIN, one, "", 0) for n, one in enumerate(content)]
        yield prepare(source(samples, ("a",)), tmp_path_factory.mktemp("data") / "data")


@pytest.fixture
def cluster(tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.005)
    return Cluster(tmp_path, manifest, monkeypatch)


def seed(number: int) -> Roles:
    """Return 12 of the images, drawn by a seed."""
    chosen = np.sort(np.random.default_rng(number).choice(IMAGES, 12, replace=False))
    return replace(table("ffrrrruuuttt"), sample_ids=[f"s{n:03d}" for n in chosen])


def levels(roles: Roles) -> list[int]:
    return [5 * int(name[1:]) for name in roles.sample_ids]


def unique(tables: Sequence[Roles]) -> int:
    return len({name for roles in tables for name in roles.sample_ids})


def test_two_nodes_and_three_seeds_decode_each_image_once(cluster: Cluster) -> None:
    """All six ask at once. What two seeds share is decoded once, and nothing else is."""
    tables, found = [seed(number) for number in range(3)], {}

    def ask(node: str, number: int) -> None:
        found[node, number] = cluster.ask(node, tables[number])

    asked = [
        threading.Thread(target=ask, args=(node, number), name=node)
        for node in ("a", "bb")
        for number in range(3)
    ]
    for thread in asked:
        thread.start()
    for thread in asked:
        thread.join()
    for (_, number), (images, _) in found.items():
        assert images.shape == (12, 3, 2, 2)
        assert images[:, 0, 0, 0].tolist() == levels(tables[number])
    assert sum(decoded for _, decoded in found.values()) == unique(tables) < 36
    records = cluster.folder.records()
    assert sum(len(record.sample_ids) for record in records) == unique(tables)


def test_a_later_command_decodes_only_what_the_store_does_not_hold(cluster: Cluster) -> None:
    first, second = seed(0), seed(1)
    assert cluster.ask("a", first)[1] == 12
    cluster.queue = _Direct()  # of another command
    images, decoded = cluster.ask("bb", second)
    assert decoded == unique([first, second]) - 12
    assert images[:, 0, 0, 0].tolist() == levels(second)


def test_chunks_hold_what_was_asked_for_and_no_other_image(cluster: Cluster) -> None:
    cluster.ask("a", seed(0))
    records = cluster.folder.records()
    assert [len(record.sample_ids) for record in records] == [4, 4, 4]
    files = list((cluster.store / "pixels").rglob("*.bin"))
    assert sum(path.stat().st_size for path in files) == 12 * PLAIN.image_bytes


def test_damaged_pixels_are_decoded_again_and_never_used(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.ask("a", seed(0))
    torn, gone, *_ = (cluster.store / "pixels").rglob("*.bin")
    torn.write_bytes(b"\xff" * torn.stat().st_size)
    gone.unlink()
    images, decoded = cluster.ask("bb", seed(0))
    assert images[:, 0, 0, 0].tolist() == levels(seed(0))
    assert decoded >= 8  # whole files of the node
    assert "damaged" in caplog.text
    assert "gone" in caplog.text
    for left in (8, 0):  # the next command makes the two chunks again
        cluster.queue = _Direct()
        images, decoded = cluster.ask("c" * (left + 3), seed(0))
        assert images[:, 0, 0, 0].tolist() == levels(seed(0))
        assert decoded == left


def test_chunks_that_are_removed_while_a_grid_reads_them_are_decoded_again(
    cluster: Cluster,
) -> None:
    """The queue of the grid still takes them for kept."""
    cluster.ask("a", seed(0))
    Store.open(str(cluster.store)).remove_all("pixels/")
    images, decoded = cluster.ask("bb", seed(0))
    assert images[:, 0, 0, 0].tolist() == levels(seed(0))
    assert decoded == 12
    images, _ = cluster.ask("ccc", seed(1))  # some of them were removed, others are new
    assert images[:, 0, 0, 0].tolist() == levels(seed(1))
    cluster.queue = _Direct()  # of another command
    both = unique([seed(0), seed(1)])
    assert cluster.ask("dddd", seed(1))[1] == 24 - both  # those that were removed
    assert cluster.ask("eeeee", seed(1))[1] == 0


def test_what_one_node_cannot_read_is_an_error_on_all_and_can_be_asked_for_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise DataError("the disk is gone", where="a.parquet")

    with monkeypatch.context() as patch:
        patch.setattr("lotus_ray.data.pixels.row_groups.RowGroupImages.read", fail)
        with pytest.raises(DataError, match="the disk is gone"):
            cluster.ask("a", seed(0))
    assert cluster.ask("a", seed(0))[1] == 12


def test_bad_images_are_known_to_every_node(tmp_path: Path, cluster: Cluster) -> None:
    content = [png(np.zeros((2, 2, 3), np.uint8)), b"torn"] * 3
    samples = [Sample(f"s{n:03d}", TRAIN, one, "", 0) for n, one in enumerate(content)]
    cluster.manifest = prepare(source(samples, ("a",)), tmp_path / "torn")
    cluster.folder = replace(cluster.folder, key="torn")
    for node in ("a", "bb"):
        with pytest.raises(DataError, match=r"3 images cannot be decoded; .*") as caught:
            cluster.ask(node, table("rrrrut"))
        assert "s001" in str(caught.value)


@pytest.mark.parametrize("others", [True, False])
def test_an_image_that_was_bad_is_tried_again_by_the_next_command(
    others: bool, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory may have been short. The chunk holds good images too, or none."""
    roles = seed(0)
    decode = transform.decode

    def fail(encoded: bytes, *rest: Any) -> np.ndarray:
        if others and encoded != first:
            return decode(encoded, *rest)
        raise DataError("no memory")

    (row_group, *_) = wanted_row_groups([cluster.manifest.directory], roles)
    first = next(row_group.read()).images[0]
    with monkeypatch.context() as patch:
        patch.setattr(transform, "decode", fail)
        with pytest.raises(DataError, match=f"{1 if others else 12} images cannot be decoded"):
            cluster.ask("a", roles)
    cluster.queue = _Direct()  # of another command
    images, decoded = cluster.ask("bb", roles)
    assert images[:, 0, 0, 0].tolist() == levels(roles)
    assert decoded == (1 if others else 12)


@pytest.mark.parametrize("turn", [1, -1])
def test_an_image_that_was_bad_at_first_is_taken_from_its_good_chunk(turn: int) -> None:
    """In either order of the two chunks."""
    old = ChunkRecord("old", "old.bin", ["a", "b"], [0, 0], {"b": "no memory"}, "node")
    new = ChunkRecord("new", "new.bin", ["b"], [0], {}, "node")
    assert kept([old, new][::turn]) == {"a": (old, 0), "b": (new, 0)}


def test_files_of_a_node_are_written_by_its_own_workers(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker of another node lends its CPU, and finds nothing to do."""
    monkeypatch.setattr(module, "FEW_BYTES", 0)
    monkeypatch.setattr(module, "free_cpus", lambda: 0)
    taken: list[tuple[str, str | None]] = []
    take = DecodeQueue.take

    def watch(queue: DecodeQueue, node: str) -> Job | None:
        job = take(queue, node)
        if job is not None:
            taken.append((node, job.node))
        return job

    monkeypatch.setattr(DecodeQueue, "take", watch)
    ended = threading.Event()

    def lend() -> None:
        with Decoder(1, LOG).lending():
            ended.wait(20)

    other = threading.Thread(target=lend, name="bb")
    other.start()
    found: list[tuple[np.ndarray, int]] = []

    def ask() -> None:
        found.append(cluster.ask("a", seed(0), Decoder(1, LOG).to_files))

    asking = threading.Thread(target=ask, name="a")
    asking.start()
    asking.join()
    ended.set()
    other.join()
    assert found[0][1] == 12
    assert taken
    assert set(taken) == {("a", "a")}
    assert not cluster.store.exists()


def test_free_cpus_take_what_nobody_has_taken(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker with no CPU to lend: all is done by tasks on two free ones."""
    monkeypatch.setattr(module, "FEW_BYTES", 0)
    monkeypatch.setattr(module, "free_cpus", lambda: 2)
    ran: list[tuple[int, int]] = []

    def beside(jobs: Sequence[Job], cpus: int) -> None:
        ran.append((len(jobs), cpus))
        for job in jobs:
            if cluster.queue.claim.remote(job.name):
                run_job(job, cluster.queue)

    monkeypatch.setattr(module, "decode_beside", beside)
    _, decoded = cluster.ask("a", seed(0), Decoder(0, LOG).once(cluster.folder))
    assert (decoded, ran) == (12, [(3, 2)])


def test_few_images_are_decoded_too_where_the_worker_has_no_cpu_to_lend(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker with CPUs decodes them alone, without tasks of Ray. Without, nobody would."""
    ran: list[int] = []

    def beside(jobs: Sequence[Job], cpus: int) -> None:
        ran.append(len(jobs))
        for job in jobs:
            if cluster.queue.claim.remote(job.name):
                run_job(job, cluster.queue)

    monkeypatch.setattr(module, "free_cpus", lambda: 0)
    monkeypatch.setattr(module, "decode_beside", beside)
    images, _ = cluster.ask("a", seed(0), Decoder(0, LOG).once(cluster.folder))
    assert images[:, 0, 0, 0].tolist() == levels(seed(0))
    assert ran == [3]
    cluster.ask("bb", seed(1), Decoder(1, LOG).once(cluster.folder))
    assert ran == [3]


@pytest.mark.parametrize("free", [0, 1])
def test_a_worker_with_no_cpu_to_lend_hears_that_ray_data_failed(
    free: int, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else decodes: it would wait for ever. One that has CPUs decodes without Ray Data."""

    def fail(jobs: Sequence[Job], cpus: int) -> None:
        assert cpus == 1  # where none is free, the task waits for one
        raise DataError("Ray Data is lost")

    monkeypatch.setattr(module, "FEW_BYTES", 0)
    monkeypatch.setattr(module, "free_cpus", lambda: free)
    monkeypatch.setattr(module, "decode_beside", fail)
    with pytest.raises(DataError, match="Ray Data is lost"):
        cluster.ask("a", seed(0), Decoder(0, LOG).once(cluster.folder))
    images, _ = cluster.ask("bb", seed(0), Decoder(1, LOG).once(cluster.folder))
    assert images[:, 0, 0, 0].tolist() == levels(seed(0))


def test_who_waits_asks_less_and_less_often_until_something_moves(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three jobs are left for a long time, then two, then none."""
    left = [3] * 6 + [2] * 3 + [0]
    pauses: list[float] = []
    progress = SimpleNamespace(remote=lambda _: Progress(left.pop(0), None))
    forget = SimpleNamespace(remote=lambda _: None)
    fake = SimpleNamespace(progress=progress, forget=forget)
    monkeypatch.setattr(module, "decode_queue", lambda: fake)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=pauses.append))
    Decoder(0, LOG)._work("request", [], lambda: None)
    assert pauses == pytest.approx([0.05, 0.15, 0.35, 0.5, 0.5, 0.5, 0.05, 0.15, 0.35])


def test_a_job_whose_worker_died_is_given_to_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("lotus_ray.cluster.decode_queue.time.monotonic", lambda: now)
    queue = DecodeQueue()
    queue.add_files("request", [Job("file", b"", "a", 1, LOG)])
    assert queue.take("b") is None
    assert queue.take("a") is not None
    assert queue.take("a") is None
    assert not queue.claim("file")
    now = LEASE_SECONDS + 1
    assert queue.take("a") is not None
    queue.ended("file", 1)
    queue.ended("file", 1)
    progress = queue.progress("request")
    assert progress is not None
    assert (progress.left, progress.error) == (0, None)
    assert queue.progress("another") is None


def test_nobody_decodes_files_for_a_worker_that_has_died() -> None:
    """The next worker of its node asks for files of its own. Another node waits on."""
    queue = DecodeQueue()
    for request, node in (("dead", "a"), ("other", "b"), ("next", "a")):
        jobs = [Job(f"{request} {n}", b"", node, 1, LOG) for n in range(2)]
        queue.add_files(request, jobs)
        assert queue.take(node) is not None
    assert queue.progress("dead") is None
    names = [job.name for _ in range(3) for node in ("a", "b") if (job := queue.take(node))]
    assert sorted(names) == ["next 0", "other 0"]
    queue.ended("dead 1", 1)
    assert queue.progress("next") == (2, None)


def test_a_queue_that_dies_last_of_all_is_asked_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All chunks are in the store by then, so nothing is decoded twice."""
    records = DecodeQueue.records

    def die(queue: DecodeQueue, *arguments: Any) -> Any:
        monkeypatch.setattr(DecodeQueue, "records", records)
        queue.__init__()  # type: ignore[misc] # as Ray starts it again
        return queue.records(*arguments)

    monkeypatch.setattr(DecodeQueue, "records", die)
    images, decoded = cluster.ask("a", seed(0))
    assert images[:, 0, 0, 0].tolist() == levels(seed(0))
    assert decoded == 12


def test_a_worker_has_its_threads_back_after_an_error(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MKL has one number of threads for the whole process, which the lent CPUs set to 1."""
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    with pytest.raises(DataError), Decoder(1, LOG).lending():
        raise DataError("the queue is gone")
    assert threads == [1, 7]


def test_versions_of_decoders_and_commands_with_external_files_have_keys_of_their_own(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    key: Callable[..., str] = key_of
    own = key([manifest], PLAIN, "one")
    assert own == key([manifest], PLAIN, "two")
    assert own != key([manifest], replace(PLAIN, img_size=3), "one")
    external = replace(manifest, columns=replace(manifest.columns, sample_id=None))
    assert key([external], PLAIN, "one") != key([external], PLAIN, "two")
    monkeypatch.setattr(chunks, "version", lambda name: "0")
    assert key([manifest], PLAIN, "one") != own


def test_the_store_opens(cluster: Cluster) -> None:
    """The folder of chunks is one of the store's own."""
    cluster.ask("a", seed(0))
    names = Store.open(str(cluster.store)).objects.names("pixels/")
    assert {name.rpartition("/")[0] for name in names} == {f"pixels/{cluster.folder.key}"}
