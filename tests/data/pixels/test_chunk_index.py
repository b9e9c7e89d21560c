"""Which chunk an image is in, beside a dictionary of ids."""

from __future__ import annotations

import numpy as np

from lotus_ray.data.pixels.chunk_index import ChunkIndex


def test_an_index_of_nothing_holds_nothing() -> None:
    index = ChunkIndex()
    assert index.chunks_of([]) == set()
    assert index.chunks_of(["a"]) is None
    assert index.holds(["a", "b"]).tolist() == [False, False]
    index.add([])
    assert index.chunks_of(["a"]) is None


def test_chunks_that_come_and_go_are_those_of_a_dictionary() -> None:
    """A hundred times a few of 40 images get into one of 9 chunks, or a chunk goes."""
    chance, index, expected = np.random.default_rng(0), ChunkIndex(), dict[str, str]()
    ids = [f"train/{n}" for n in range(40)]
    for _ in range(100):
        chunks = [
            ([ids[n] for n in chance.choice(40, 3, replace=False)], f"chunk {chance.integers(9)}")
            for _ in range(2)
        ]
        index.add(chunks)
        for names, chunk in chunks:
            expected |= dict.fromkeys(names, chunk)
        if chance.random() < 0.3:
            gone = chunks[0][1]
            index.drop(gone)
            expected = {name: chunk for name, chunk in expected.items() if chunk != gone}
        assert index.holds(ids).tolist() == [name in expected for name in ids]
        wanted = [ids[n] for n in chance.choice(40, 4, replace=False)]
        is_whole = expected.keys() >= set(wanted)
        assert index.chunks_of(wanted) == ({expected[n] for n in wanted} if is_whole else None)
