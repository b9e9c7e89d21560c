from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lotus_ray.base import seeds
from lotus_ray.base.roles import FORGET, RETAIN, TEST, UNSEEN
from lotus_ray.data.batches import dataset as dataset
from lotus_ray.data.batches.dataset import ImageDataset
from lotus_ray.data.batches.subset import ImageSubset
from lotus_ray.data.pixels.lookup import Pixels
from lotus_ray.data.pixels.transform import Transform
from lotus_ray.data.roles.table import Roles
from lotus_ray.unlearning.contract import Batch, Workers
from tests.toy import batch_of, make_dataset, table

PLAIN = Transform(2, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
SIZES = range(1, 6)
sizes = st.integers(1, 5)
small = settings(max_examples=40, deadline=None)


def image_dataset(roles: Roles, rank: int = 0, size: int = 1, seed: int = 0) -> ImageDataset:
    """Build the image dataset of one worker; every pixel of a sample holds its row."""
    pixels = torch.arange(len(roles), dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2)
    workers = Workers(rank=rank, size=size)
    return ImageDataset(
        Pixels.of(pixels.numpy()), roles, PLAIN, seed, torch.device("cpu"), torch.float64, workers
    )


def splits(roles: Roles, size: int, *names: str, seed: int = 0) -> list[ImageSubset]:
    """Return the same split as each of `size` workers has it."""
    return [image_dataset(roles, rank, size, seed).split(*names) for rank in range(size)]


def epoch(workers: list[ImageSubset], batch_size: int, *names: object) -> list[list[Batch]]:
    """Return the shares of each global batch of one epoch, worker by worker."""
    passes = [list(split.shuffled(batch_size, *names)) for split in workers]
    return [list(shares) for shares in zip(*passes, strict=True)]


def rows(batches: list[Batch]) -> list[int]:
    """Return the rows of some batches, one after another."""
    return [row for batch in batches for row in batch.rows.tolist()]


@pytest.mark.parametrize("size", SIZES)
def test_an_evaluation_pass_sees_every_sample_once(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """23 retain samples in batches of at most 3, beside 4 samples of another role."""
    monkeypatch.setattr(dataset, "EVALUATION_BATCH", 3)
    roles = table("fr" * 4 + "r" * 19)
    workers = splits(roles, size, RETAIN)
    batches = [batch for split in workers for batch in split]
    assert sorted(rows(batches)) == roles.indices(RETAIN).tolist()
    assert len(rows(batches)) == 23
    assert {batch.total for batch in batches} == {23}
    assert max(len(batch.rows) for batch in batches) == 3


@pytest.mark.parametrize("size", SIZES)
def test_an_evaluation_pass_is_the_same_again(size: int) -> None:
    for split in splits(table("r" * 23), size, RETAIN):
        assert rows(list(split)) == rows(list(split)) == sorted(rows(list(split)))


def test_more_workers_than_samples_leave_some_without_a_batch() -> None:
    assert [rows(list(split)) for split in splits(table("rr"), 3, RETAIN)] == [[0], [1], []]


@small
@given(st.integers(1, 60), st.integers(1, 60), sizes)
def test_an_epoch_sees_every_sample_once(samples: int, batch_size: int, size: int) -> None:
    roles = table("u" + "r" * samples)
    batches = epoch(splits(roles, size, RETAIN), batch_size, "train", 0)
    seen = Counter(row for shares in batches for row in rows(shares))
    assert sorted(seen) == roles.indices(RETAIN).tolist()
    if min(len(set(rows(shares))) for shares in batches) >= size:
        assert set(seen.values()) == {1}


@small
@given(st.integers(1, 60), st.integers(1, 60), sizes)
def test_a_short_batch_goes_whole_to_every_worker(samples: int, batch_size: int, size: int) -> None:
    for shares in epoch(splits(table("r" * samples), size, RETAIN), batch_size, "train", 0):
        whole = set(rows(shares))
        if len(whole) < size:
            assert all(sorted(share.rows.tolist()) == sorted(whole) for share in shares)
            assert {share.total for share in shares} == {size * len(whole)}
        else:
            assert len(rows(shares)) == len(whole)
            assert {share.total for share in shares} == {len(whole)}
            lengths = {len(share.rows) for share in shares}
            assert max(lengths) - min(lengths) <= 1


def test_a_short_batch_by_hand() -> None:
    """3 samples at 2 a batch are batches of 2 and 1: 3 workers get 2 rows of 6, then 1 of 3."""
    batches = epoch(splits(table("rrr"), 3, RETAIN), 2, "train")
    assert [[len(s.rows) for s in shares] for shares in batches] == [[2, 2, 2], [1, 1, 1]]
    assert [[s.total for s in shares] for shares in batches] == [[6, 6, 6], [3, 3, 3]]


@small
@given(st.integers(1, 60), st.integers(1, 60), sizes)
def test_the_mean_over_a_batch_does_not_depend_on_the_workers(
    samples: int, batch_size: int, size: int
) -> None:
    roles = table("r" * samples)
    alone = epoch(splits(roles, 1, RETAIN), batch_size, "train")
    shared = epoch(splits(roles, size, RETAIN), batch_size, "train")

    def means(batches: list[list[Batch]]) -> Tensor:
        per_batch = [sum(s.mean(s.rows.double() ** 2) for s in shares) for shares in batches]
        return torch.stack([torch.as_tensor(mean) for mean in per_batch])

    assert torch.allclose(means(shared), means(alone), rtol=1e-12)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("batch_size", [1, 4, 10, 100])
def test_a_global_batch_holds_the_same_samples_at_any_worker_count(
    size: int, batch_size: int
) -> None:
    roles = table("fr" * 13)
    alone = epoch(splits(roles, 1, RETAIN), batch_size, "train", 3)
    shared = epoch(splits(roles, size, RETAIN), batch_size, "train", 3)
    assert [set(rows(b)) for b in shared] == [set(rows(b)) for b in alone]


@small
@given(st.integers(1, 60), st.integers(1, 60))
def test_batch_sizes_differ_by_at_most_one(samples: int, batch_size: int) -> None:
    batches = epoch(splits(table("r" * samples), 1, RETAIN), batch_size, "train")
    lengths = [len(rows(shares)) for shares in batches]
    assert len(lengths) == -(-samples // batch_size)
    assert max(lengths) <= batch_size
    assert max(lengths) - min(lengths) <= 1


def test_batch_sizes_by_hand() -> None:
    """10 samples at 4 a batch are ceil(10/4) = 3 batches, of 4, 3 and 3."""
    batches = splits(table("r" * 10), 1, RETAIN)[0].shuffled(4, "train")
    assert [len(batch.rows) for batch in batches] == [4, 3, 3]


def test_an_epoch_over_nothing_has_no_batch() -> None:
    assert list(splits(table("f"), 1, RETAIN)[0].shuffled(4, "train")) == []


def test_the_order_depends_on_the_seed_and_the_names_alone() -> None:
    roles = table("r" * 40)

    def order(seed: int, *names: object) -> list[int]:
        return rows(list(splits(roles, 1, RETAIN, seed=seed)[0].shuffled(7, *names)))

    assert order(1, "train", 0) == order(1, "train", 0)
    others = [order(1, "train", 1), order(1, "lotus", 0), order(2, "train", 0)]
    assert all(other != order(1, "train", 0) for other in others)
    assert order(1, "train", 0) != list(range(40))


def test_an_epoch_can_be_walked_twice() -> None:
    one = splits(table("r" * 9), 1, RETAIN)[0].shuffled(4, "train")
    assert rows(list(one)) == rows(list(one))


def test_the_order_depends_on_ids_and_not_on_places() -> None:
    """The same 20 retain ids stand at rows 0-19 of one table and 5-24 of another."""
    near = table("r" * 20)
    far = replace(
        table("f" * 5 + "r" * 20), sample_ids=[f"a{row}" for row in range(5)] + near.sample_ids
    )
    orders = []
    for roles in (near, far):
        found = rows(list(splits(roles, 1, RETAIN)[0].shuffled(6, "train")))
        orders.append([roles.sample_ids[row] for row in found])
    assert orders[0] == orders[1]


@small
@given(st.integers(1, 60), st.floats(0.01, 1), st.integers(1, 70))
def test_a_subset_takes_its_part_of_the_set_and_of_every_class(
    samples: int, fraction: float, classes: int
) -> None:
    """round(fraction · n) in all, at least one; of each class less than one off its part."""
    split = splits(table("u" + "r" * samples, classes), 1, RETAIN)[0]
    chosen = split.subset(fraction, "half")
    assert len(chosen) == max(round(fraction * samples), 1)
    assert set(chosen.rows) <= set(split.rows)
    assert chosen.rows.tolist() == sorted(set(chosen.rows.tolist()))
    for label in range(classes):
        of_class = int((split.rows % classes == label).sum())
        assert abs(int((chosen.rows % classes == label).sum()) - fraction * of_class) < 1


@pytest.mark.parametrize(
    ("samples", "classes", "counts"),
    [
        (10, 3, [1, 1, 1]),  # 1.2, 0.9, 0.9 of 3: one, and two more to the nines
        (45, 1, [14]),  # 13.5, rounded to the even number
        (90, 2, [13, 14]),  # 13.5 each of 27: the one more goes to one of them
        (45, 45, [0] * 31 + [1] * 14),  # 0.3 each of 13.5
        (20, 10, [0] * 4 + [1] * 6),  # 0.6 each of 6
        (1, 1, [1]),  # 0.3 of 0.3: at least one
    ],
)
def test_subset_counts_by_hand(samples: int, classes: int, counts: list[int]) -> None:
    """Three tenths, rounded over the set and not in each class."""
    chosen = splits(table("r" * samples, classes), 1, RETAIN)[0].subset(0.3, "part")
    assert sorted(np.bincount(chosen.rows % classes, minlength=classes).tolist()) == counts


def test_ties_between_classes_go_to_none_of_them_always() -> None:
    """Two classes of 45 at three tenths: (13, 14) or (14, 13), as the names say, and again so."""
    split = splits(table("r" * 90, 2), 1, RETAIN)[0]
    found = [int((split.subset(0.3, name).rows % 2).sum()) for name in range(20)]
    assert set(found) == {13, 14}
    assert found == [int((split.subset(0.3, name).rows % 2).sum()) for name in range(20)]


def test_no_part_is_none() -> None:
    assert len(splits(table("r" * 9), 1, RETAIN)[0].subset(0.0, "part")) == 0


def test_a_subset_is_drawn_from_the_seed_and_the_names() -> None:
    roles = table("r" * 60)

    def chosen(seed: int, name: str) -> list[int]:
        return splits(roles, 1, RETAIN, seed=seed)[0].subset(0.5, name).rows.tolist()

    assert chosen(1, "a") == chosen(1, "a")
    assert chosen(1, "a") != chosen(1, "b")
    assert chosen(1, "a") != chosen(2, "a")


@pytest.mark.parametrize("size", SIZES)
def test_a_subset_is_the_same_on_every_worker(size: int) -> None:
    parts = [
        split.subset(0.5, "a").rows.tolist() for split in splits(table("r" * 30), size, RETAIN)
    ]
    assert parts == [parts[0]] * size
    assert len(parts[0]) == 15


def test_a_subset_of_nothing_is_empty() -> None:
    empty = splits(table("f"), 1, RETAIN)[0].subset(0.5, "a")
    assert len(empty) == 0
    assert list(empty) == []


@pytest.mark.parametrize("size", SIZES)
def test_at_most_counts_by_hand(size: int) -> None:
    """Rows 0-10 of 3 classes hold 4, 4, 3 samples: at most 2 are 2, 2, 2 and at most 9 are all."""
    for split in splits(table("r" * 11), size, RETAIN):
        assert np.bincount(split.at_most(2, "a").rows % 3).tolist() == [2, 2, 2]
        assert split.at_most(9, "a").rows.tolist() == split.rows.tolist()
        assert len(split.at_most(0, "a")) == 0
    assert len(splits(table("f"), size, RETAIN)[0].at_most(2, "a")) == 0


def test_at_most_is_drawn_from_the_seed_and_the_names() -> None:
    one, two = (splits(table("r" * 60), 1, RETAIN, seed=seed)[0] for seed in (1, 2))
    assert one.at_most(5, "a").rows.tolist() == one.at_most(5, "a").rows.tolist()
    assert one.at_most(5, "a").rows.tolist() != one.at_most(5, "b").rows.tolist()
    assert one.at_most(5, "a").rows.tolist() != two.at_most(5, "a").rows.tolist()


@small
@given(st.integers(1, 20), st.integers(1, 60))
def test_a_draw_takes_every_sample_as_often_as_any_or_once_more(samples: int, count: int) -> None:
    split = splits(table("u" + "r" * samples), 1, RETAIN)[0]
    times = Counter(split.draw(count, "a").rows.tolist())
    assert sum(times.values()) == count
    assert set(times) <= set(split.rows.tolist())
    often = [times[row] for row in split.rows.tolist()]
    assert max(often) - min(often) <= 1


@pytest.mark.parametrize("size", [1, 2, 3])
def test_repeated_samples_do_not_share_a_batch(size: int) -> None:
    """1,000 of 400 samples in batches of 125; a shuffle of all copies left some 50 distinct."""
    workers = [split.draw(1000, "a") for split in splits(table("r" * 400), size, RETAIN)]
    batches = epoch(workers, 125, "partner")
    assert [len(set(rows(shares))) for shares in batches] == [125] * 8
    alone = epoch([splits(table("r" * 400), 1, RETAIN)[0].draw(1000, "a")], 125, "partner")
    assert [sorted(rows(b)) for b in batches] == [sorted(rows(b)) for b in alone]


def test_a_draw_depends_on_the_seed_and_the_names() -> None:
    one, two = (splits(table("r" * 60), 1, RETAIN, seed=seed)[0] for seed in (1, 2))
    assert one.draw(20, "a").rows.tolist() == one.draw(20, "a").rows.tolist()
    assert one.draw(20, "a").rows.tolist() != one.draw(20, "b").rows.tolist()
    assert one.draw(20, "a").rows.tolist() != two.draw(20, "a").rows.tolist()


def test_a_union_holds_each_sample_once() -> None:
    """f r f u: forget is rows 0 and 2, retain row 1; forget twice adds nothing."""
    warmed = image_dataset(table("frfu"))
    forget, retain = warmed.split(FORGET), warmed.split(RETAIN)
    assert forget.union(retain).rows.tolist() == [0, 1, 2]
    assert forget.union(forget).rows.tolist() == [0, 2]
    assert warmed.split(UNSEEN, TEST).rows.tolist() == [3]


def test_a_batch_by_hand() -> None:
    """Row 2 of f r f u: class 2 of 3, forgotten; its pixels 2 become 2/255."""
    roles = table("frfu")
    batch = next(image_dataset(roles).batches([np.array([2, 1])], [9], None))
    assert batch.labels.tolist() == [2, 1]
    assert batch.forget.tolist() == [True, False]
    assert batch.rows.tolist() == [2, 1]
    assert batch.keys.tolist() == [seeds.seed_for("sample", name) for name in ("s002", "s001")]
    assert batch.total == 9
    assert batch.images.dtype == torch.float64
    assert torch.allclose(batch.images[0], torch.full((3, 2, 2), 2 / 255, dtype=torch.float64))


def test_normalisation_by_hand() -> None:
    """(p/255 − mean)/std: (1 − 0.5)/0.5 = 1, (0 − 0.25)/0.5 = −0.5, (1 − 0)/2 = 0.5."""
    pixels = torch.tensor([255, 0, 255], dtype=torch.uint8)[None, :, None, None].expand(1, 3, 2, 2)
    transform = Transform(2, mean=(0.5, 0.25, 0.0), std=(0.5, 0.5, 2.0))
    images, device = Pixels.of(pixels.numpy()), torch.device("cpu")
    image_dataset = ImageDataset(images, table("f"), transform, 0, device, torch.float32, Workers())
    made = batch_of(image_dataset, [0])
    assert made.images.dtype == torch.float32
    assert made.images[0, :, 0, 0].tolist() == [1.0, -0.5, 0.5]


def test_the_pixel_range_by_hand() -> None:
    """Black is (0 − 0.5)/0.25 = −2, white (1 − 0.5)/0.25 = 2; the last channel 0 and 1."""
    transform = Transform(2, mean=(0.5, 0.5, 0.0), std=(0.25, 0.25, 1.0))
    pixels = Pixels.of(np.zeros((1, 3, 2, 2), np.uint8))
    device = torch.device("cpu")
    made = ImageDataset(pixels, table("f"), transform, 0, device, torch.float64, Workers())
    black, white = made.pixel_range
    assert black.flatten().tolist() == [-2.0, -2.0, 0.0]
    assert white.flatten().tolist() == [2.0, 2.0, 1.0]
    assert black.shape == white.shape == (1, 3, 1, 1)


def test_large_images_are_normalised_as_small_ones_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit; and by hand, pixel 51 of mean 0.1 and std 0.2 is (0.2 − 0.1) / 0.2 = 0.5."""
    transform = Transform(4, mean=(0.1, 0.2, 0.3), std=(0.2, 0.3, 0.4))
    pixels = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8)
    pixels[0, 0, 0, 0] = 51
    found = []
    for large in (1, 10**9):
        monkeypatch.setattr(dataset, "LARGE", large)
        made = make_dataset(pixels, table("frrut"), transform=transform)
        found.append(batch_of(made, [0, 3, 4]).images)
    assert torch.equal(found[0], found[1])
    assert float(found[0][0, 0, 0, 0]) == pytest.approx(0.5, abs=1e-15)
    mean, std = (
        torch.tensor(v, dtype=torch.float64).reshape(1, 3, 1, 1)
        for v in (transform.mean, transform.std)
    )
    assert torch.allclose(found[0], (pixels[[0, 3, 4]] / 255.0 - mean) / std, atol=1e-6)


def test_memory_is_released_for_sizes_that_the_last_passes_did_not_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Passes in batches of 4 and of 16 in turn use the fragments of each other's blocks."""
    released: list[None] = []
    monkeypatch.setattr(dataset, "release_memory", lambda: released.append(None))
    images = image_dataset(table("r" * 64)).split(RETAIN)
    counts = []
    for size in (4, 4, 16, 4, 16, 16, 6, 32, 64, 16):
        released.clear()
        list(images.shuffled(size))
        counts.append(len(released))
    assert counts == [1, 0, 1, 0, 0, 0, 0, 0, 0, 1]
