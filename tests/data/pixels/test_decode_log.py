"""How much of some seconds images were decoded on a node."""

from __future__ import annotations

from pathlib import Path

import pytest

from lotus_ray.data.pixels.decode_log import LOST_SECONDS, DecodeLog

MODULE = "lotus_ray.data.pixels.decode_log.time.time"


def test_overlapping_blocks_count_once_and_only_between_the_two_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoded from 10 to 14, from 12 to 16, and from 20 on."""
    now = 10.0
    monkeypatch.setattr(MODULE, lambda: now)
    log = DecodeLog(tmp_path / "log")
    with log.decoding():
        now = 12.0
        with log.decoding():
            now = 16.0
        now = 14.0
    blocks = log.decoding()
    now = 20.0
    blocks.__enter__()
    assert log.seconds_between(0, 9) == 0
    assert log.seconds_between(0, 100) == 6 + 80
    assert log.seconds_between(11, 13) == 2
    assert log.seconds_between(15, 21) == 2
    assert log.seconds_between(16, 20) == 0
    now = 25.0
    blocks.__exit__(None, None, None)
    assert log.seconds_between(0, 100) == 6 + 5


def test_a_block_whose_process_died_ends_some_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, lambda: 100.0)
    log = DecodeLog(tmp_path / "log")
    lost = log.decoding()
    lost.__enter__()
    assert log.seconds_between(100, 200) == 100
    assert log.seconds_between(100 + LOST_SECONDS, 200 + LOST_SECONDS) == 0


def test_where_no_cell_runs_nothing_is_noted(tmp_path: Path) -> None:
    log = DecodeLog(tmp_path / "none" / "log")
    with log.decoding():
        pass
    assert log.seconds_between(0, 1e12) == 0
    assert list(tmp_path.iterdir()) == []
