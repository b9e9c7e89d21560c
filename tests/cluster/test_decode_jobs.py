"""Jobs of the decode queue, and whether a command needs the queue. No Ray."""

from __future__ import annotations

import pickle
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pytest

pytest.importorskip("ray")

import ray

from lotus_ray.base.errors import ClusterError
from lotus_ray.cluster import decode_jobs, trials
from lotus_ray.cluster.decode_queue import Job
from lotus_ray.data.pixels.decode_log import DecodeLog
from lotus_ray.data.pixels.transform import Transform
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import TRAIN
from tests.toy import Sample, png, source


class _Odd(Exception):
    """An error that another process cannot read."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


class _Task:
    """A job that fails with such an error."""

    def run(self, node: str) -> NoReturn:
        raise _Odd("torn", "bytes")


@pytest.mark.parametrize(
    ("content", "words"),
    [(zlib.compress(pickle.dumps(_Task())), "_Odd: torn bytes"), (b"\x80", "decompressing")],
)
def test_whoever_waits_hears_of_every_error(
    content: bytes, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the job is given to one worker after another, for ever."""
    told: list[tuple[str, Exception]] = []

    def ended(*answer: Any) -> None:
        told.append(pickle.loads(pickle.dumps(answer)))  # as Ray sends it

    here = SimpleNamespace(get_node_id=lambda: "a")
    monkeypatch.setattr(ray, "get", lambda answer: answer)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: here)
    job = Job("file", content, None, 1, DecodeLog(Path("/nowhere/log")))
    decode_jobs.run_job(job, SimpleNamespace(ended=SimpleNamespace(remote=ended)))
    (name, error), *more = told
    assert (name, more) == ("file", [])
    with pytest.raises(Exception, match=words):
        raise error


def test_a_queue_that_is_not_there_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def get_actor(name: str) -> NoReturn:
        raise ValueError(name)

    monkeypatch.setattr(ray, "get_actor", get_actor)
    monkeypatch.setattr(decode_jobs, "QUEUE_SECONDS", 0.1)
    with pytest.raises(ClusterError, match="not there after 0 s"):
        decode_jobs.decode_queue()


@pytest.mark.parametrize("sizes", [(2, 64), (64, 2)])
def test_the_largest_images_of_a_data_set_decide_whether_the_queue_runs(
    sizes: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two models want the same images in two sizes: their order does not matter."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    samples = [Sample(f"s{n}", TRAIN, png(np.zeros((2, 2, 3), np.uint8)), "", 0) for n in range(4)]
    folder = prepare(source(samples, ("a",)), tmp_path / "data").directory
    groups = [SimpleNamespace(transform=Transform(size), manifests=(folder,)) for size in sizes]
    orders: Any = [SimpleNamespace(group=group) for group in groups]
    largest = 4 * Transform(64).image_bytes
    for few, is_needed in ((largest, False), (largest - 1, True)):
        monkeypatch.setattr(trials, "FEW_BYTES", few)
        assert trials.needs_queue(orders) is is_needed
