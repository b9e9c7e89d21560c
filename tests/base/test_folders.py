"""A folder is listed while others remove what is in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lotus_ray.base.folders import files_under
from lotus_ray.store.results import Store


def fails_at(folder: Path, error: type[OSError], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a folder be listed as one that cannot be opened any more."""
    honest = os.scandir

    def scandir(path: object = ".") -> object:
        if Path(str(path)) == folder:
            raise error(2, "gone", str(path))
        return honest(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", scandir)


def test_what_vanishes_while_a_folder_is_listed_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/one", "b/two", "b/c/three"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert sorted(files_under(tmp_path)) == [tmp_path / n for n in ("a/one", "b/c/three", "b/two")]
    fails_at(tmp_path / "b", FileNotFoundError, monkeypatch)
    assert list(files_under(tmp_path)) == [tmp_path / "a" / "one"]
    assert list(files_under(tmp_path / "nothing")) == list(files_under(tmp_path / "a/one")) == []


def test_a_folder_that_cannot_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    fails_at(tmp_path / "a", PermissionError, monkeypatch)
    with pytest.raises(PermissionError):
        list(files_under(tmp_path))


def test_a_store_lists_its_names_while_checkpoints_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(str(tmp_path / "store"))
    for name in ("borders/a/1.pt", "borders/b/1.pt"):
        store.replace(name, b"x")
    fails_at(tmp_path / "store" / "borders" / "a", FileNotFoundError, monkeypatch)
    assert store.objects.names("borders/") == ["borders/b/1.pt"]
