"""Images that stream past give the same batches as images that are here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest

import numpy as np
import pytest
import torch

from lotus_ray.base.roles import FORGET, RETAIN
from lotus_ray.data.batches.dataset import ImageDataset
from lotus_ray.data.pixels.lookup import Pixels, StreamedPixels
from lotus_ray.data.pixels.row_groups import RowGroupImages
from lotus_ray.data.pixels.transform import Transform
from lotus_ray.unlearning.contract import Batch, Workers
from tests.toy import PLAIN, table

COUNT, WINDOW, GROUP = 90, 16, 7
ROLES = table("f" * 10 + "r" * 76 + "uutt")
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 3, 2, 2), dtype=np.uint8)
# Stored in another order than that of the table, in row groups of 7.
STORED = np.random.default_rng(1).permutation(COUNT)


def row_groups() -> list[RowGroupImages]:
    return [
        RowGroupImages(
            "file",
            group,
            np.arange(len(rows)),
            rows,
            [ROLES.sample_ids[row] for row in rows],
            "image",
        )
        for group, rows in enumerate(np.split(STORED, range(GROUP, COUNT, GROUP)))
    ]


class Stream:
    """Gives the images of row groups in two parts each; remembers what it gave and how it ended."""

    def __init__(self) -> None:
        self.given: list[int] = []
        self.open = 0

    def __call__(
        self, wanted: Sequence[RowGroupImages], transform: Transform
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        self.open += 1
        try:
            for row_group in wanted:
                for rows in np.array_split(row_group.rows, min(2, len(row_group))):
                    self.given += rows.tolist()
                    yield rows, IMAGES[rows]
        finally:
            self.open -= 1


def image_dataset(
    cold: str | None, stream: Stream, rank: int = 0, size: int = 1, window: int | None = WINDOW
) -> ImageDataset:
    """Build a set in which the images of the role `cold` are not here."""
    images = IMAGES.copy()
    pixels: Pixels | StreamedPixels = Pixels.of(images)
    if cold:
        images[ROLES.indices(cold)] = 0
        here = Pixels.of(images)
        here.block[ROLES.indices(cold)] = -1
        pixels = StreamedPixels(here, row_groups(), PLAIN, stream)
    return ImageDataset(
        pixels,
        ROLES,
        PLAIN,
        3,
        torch.device("cpu"),
        torch.float64,
        Workers(rank=rank, size=size),
        stored=np.argsort(STORED),
        window=window,
    )


def equal(one: Batch | None, other: Batch | None) -> bool:
    assert one is not None
    assert other is not None
    return one.total == other.total and all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("images", "labels", "rows", "keys", "forget")
    )


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [5, 16, 1000])
def test_batches_are_the_same_whether_images_stream_or_are_here(size: int, batch_size: int) -> None:
    for rank in range(size):
        stream = Stream()
        streamed, dataset = (
            image_dataset(RETAIN, stream, rank, size),
            image_dataset(None, stream, rank, size),
        )
        for epoch in range(2):
            one, other = (
                s.split(FORGET, RETAIN).shuffled(batch_size, "lotus", epoch)
                for s in (streamed, dataset)
            )
            assert all(equal(*pair) for pair in zip_longest(one, other))
        assert all(
            equal(*pair) for pair in zip_longest(streamed.split(RETAIN), dataset.split(RETAIN))
        )
        assert stream.open == 0


def test_the_order_of_an_epoch_does_not_depend_on_the_number_of_workers() -> None:
    def global_batches(size: int) -> list[list[int]]:
        shares = [
            [
                b.rows.tolist()
                for b in image_dataset(None, Stream(), r, size).split(RETAIN).shuffled(8)
            ]
            for r in range(size)
        ]
        return [sorted(chain.from_iterable(parts)) for parts in zip(*shares, strict=True)]

    assert global_batches(1) == global_batches(2) == global_batches(3)


@pytest.mark.parametrize("size", [1, 2])
def test_each_streamed_image_is_decoded_once_an_epoch_and_the_others_never(size: int) -> None:
    given = []
    for rank in range(size):
        stream = Stream()
        made = image_dataset(RETAIN, stream, rank, size)
        list(made.split(FORGET, RETAIN).shuffled(8, 0))
        assert isinstance(made.pixels, StreamedPixels)
        assert made.pixels.decoded == len(stream.given)
        given += stream.given
    assert sorted(given) == ROLES.indices(RETAIN).tolist()


def test_what_streams_past_is_taken_no_more_than_two_windows_ahead() -> None:
    stream = Stream()
    taken = 0
    for batch in image_dataset(RETAIN, stream).split(RETAIN).shuffled(4, 0):
        assert len(stream.given) <= taken + 2 * WINDOW + GROUP
        taken += len(batch.rows)
    assert taken == 76


def test_a_pass_that_is_given_up_closes_its_stream() -> None:
    stream = Stream()
    epoch = iter(image_dataset(RETAIN, stream).split(RETAIN).shuffled(4, 0))
    next(epoch)
    assert stream.open == 1
    del epoch
    assert stream.open == 0


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [7, 40, 1000])
@pytest.mark.parametrize("count", [100, 300])
def test_samples_that_are_drawn_twice_stream_too(size: int, batch_size: int, count: int) -> None:
    """UNSIR draws partners with repetition: 100 or 300 of 76 retained images."""
    for rank in range(size):
        stream = Stream()
        streamed, here = (
            image_dataset(cold, stream, rank, size).split(RETAIN).draw(count, "unsir")
            for cold in (RETAIN, None)
        )
        passes = (split.shuffled(batch_size, "partner") for split in (streamed, here))
        assert all(equal(*pair) for pair in zip_longest(*passes))
        assert all(equal(*pair) for pair in zip_longest(streamed, here))
        assert stream.open == 0


def test_a_streamed_image_is_decoded_once_in_each_pass() -> None:
    """152 of 76: each twice, as two epochs would."""
    stream = Stream()
    list(image_dataset(RETAIN, stream).split(RETAIN).draw(152, "unsir").shuffled(8, 0))
    assert sorted(stream.given) == sorted(ROLES.indices(RETAIN).tolist() * 2)


def test_images_that_are_here_open_no_stream() -> None:
    stream = Stream()
    list(image_dataset(RETAIN, stream).split(FORGET).shuffled(4, 0))
    assert stream.given == []
    assert stream.open == 0
