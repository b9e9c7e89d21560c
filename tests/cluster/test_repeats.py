"""Equal lines of Ray's C++ appear once."""

from __future__ import annotations

import os
from pathlib import Path

from lotus_ray.cluster.repeats import repeats_once


def test_equal_lines_appear_once_and_the_rest_are_counted(tmp_path: Path) -> None:
    """Twenty that differ in time alone are one and nineteen; an unfinished line is kept too."""
    path = tmp_path / "stderr"
    with path.open("wb") as file:
        descriptor = file.fileno()
        with repeats_once(descriptor):
            for second in range(20):
                os.write(descriptor, b"[2026-11-29 10:00:%02d,001 E 12 12] wrong token\n" % second)
            os.write(descriptor, b"another line\n\n\nunfinished")
        os.write(descriptor, b"\nafter\n")
    assert path.read_text().splitlines() == [
        "[2026-11-29 10:00:00,001 E 12 12] wrong token",
        "another line",
        "",
        "",
        "unfinished",
        "(19 more lines that say the same)",
        "",
        "after",
    ]


def test_a_block_that_raises_leaves_the_stream_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "stderr"
    with path.open("wb") as file:
        try:
            with repeats_once(file.fileno()):
                os.write(file.fileno(), b"one\n")
                raise ValueError("no")
        except ValueError:
            os.write(file.fileno(), b"two\n")
    assert path.read_text() == "one\ntwo\n"
