"""What every place for objects promises: a folder, a bucket of S3, a bucket of Google."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lotus_ray.base.errors import StoreError
from lotus_ray.store.objects import Objects
from lotus_ray.store.objects.local import LocalObjects
from lotus_ray.store.results import Store
from tests.races import race


@pytest.fixture
def objects(place: str) -> Objects:
    return Store.open(place).objects


def files(folder: Path) -> list[str]:
    """Return every file below a folder, temporary ones too."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_of_two_that_create_an_object_one_wins_every_time(objects: Objects) -> None:
    turns = 100 if isinstance(objects, LocalObjects) else 20
    for turn in range(turns):
        name = f"rows/{turn}.json"
        won = race(lambda number, name=name: objects.create(name, bytes([number]) * 2000))
        assert sorted(won) == [False, True]
        assert objects.read(name) == bytes([won.index(True)]) * 2000
    assert len(objects.names("rows/")) == turns


def test_a_reader_never_meets_half_an_object(objects: Objects) -> None:
    objects.replace("outcome.json", b"a" * 100_000)
    done = threading.Event()

    def write() -> None:
        for turn in range(40):
            objects.replace("outcome.json", (b"b", b"a")[turn % 2] * 100_000)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = [objects.read("outcome.json")]
    while not done.is_set():
        seen.append(objects.read("outcome.json"))
    writer.join()
    assert set(seen) <= {b"a" * 100_000, b"b" * 100_000}
    assert len(seen) > 1
    assert objects.names("") == ["outcome.json"]


def test_create_keeps_what_is_there_and_replace_does_not(objects: Objects) -> None:
    assert objects.create("a/b", b"first") is True
    assert objects.create("a/b", b"second") is False
    assert objects.read("a/b") == b"first"
    objects.replace("a/b", b"third")
    assert objects.read("a/b") == b"third"
    assert objects.names("") == ["a/b"]


def test_names_leave_out_hidden_files_and_other_folders(objects: Objects) -> None:
    for name in ("rows/b/0000.json", "rows/a/0001.json", "rows/a/.0002.json.tmp", "roles/x"):
        objects.create(name, b"0" * len(name))
    assert objects.names("rows/") == ["rows/a/0001.json", "rows/b/0000.json"]
    assert objects.sizes("rows/") == {"rows/a/0001.json": 16, "rows/b/0000.json": 16}
    assert objects.names("nothing/") == []
    with pytest.raises(FileNotFoundError) as caught:
        objects.read("nothing")
    assert caught.value.strerror == "No such file or directory"


def test_folders_with_names_that_begin_alike_are_told_apart(objects: Objects) -> None:
    for name in ("rows/a/0.json", "rows/ab/0.json", "rows/a.json"):
        objects.create(name, name.encode())
    assert objects.names("rows/a/") == ["rows/a/0.json"]
    objects.delete_all("rows/a/")
    assert objects.names("rows/") == ["rows/a.json", "rows/ab/0.json"]
    objects.delete_all("rows/never/")


def test_folders_are_those_right_below(objects: Objects) -> None:
    assert objects.folders("") == []
    for name in ("rows/b/0000.json", "rows/a/0001.json", "rows/x.json", "roles/x", "outcome.json"):
        objects.create(name, b"")
    assert objects.folders("") == ["roles/", "rows/"]
    assert objects.folders("rows/") == ["rows/a/", "rows/b/"]
    assert objects.folders("nothing/") == []


def test_a_list_is_whole_however_long_it_is(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers give at most 1,000 names at a time; moto gives as few as it is told."""
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "7")
    names = [f"rows/{number:03d}" for number in range(30)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: objects.create(name, b"x"), names))
    assert objects.names("rows/") == names
    objects.delete_all("rows/")
    assert objects.names("rows/") == []


def test_a_stamp_changes_with_the_content(objects: Objects) -> None:
    assert objects.etag("borders/cell/0000.pt") is None
    stamps = set()
    for content in (b"one", b"two", b"three"):
        objects.replace("borders/cell/0000.pt", content)
        stamps.add(objects.etag("borders/cell/0000.pt"))
        assert objects.etag("borders/cell/0000.pt") in stamps
    assert len(stamps) == 3


def test_a_large_object_goes_and_comes_in_parts(objects: Objects) -> None:
    content = os.urandom((8 << 20) + 17) * 2
    objects.replace("weights", content)
    assert objects.read("weights") == content
    objects.replace("weights", content[:-1])
    assert objects.read("weights") == content[:-1]


def test_an_empty_object_is_one(objects: Objects) -> None:
    assert objects.create("empty", b"") is True
    objects.replace("other", b"")
    assert (objects.read("empty"), objects.read("other")) == (b"", b"")
    assert objects.etag("empty") is not None


def test_a_folder_goes_with_what_killed_writers_left(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    objects.replace("borders/cell/0000.pt", b"one")
    (tmp_path / "borders" / "cell" / ".0001.pt.abc").write_bytes(b"half")
    objects.replace("borders/other/0000.pt", b"two")
    objects.delete_all("borders/cell/")
    objects.delete_all("borders/never/")
    assert files(tmp_path) == ["borders/other/0000.pt"]


def test_a_link_whose_reply_was_lost_is_known_for_our_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network disk that asks again says that the file exists; the two names are one file."""
    link = os.link

    def link_twice(source: Path, destination: Path) -> None:
        link(source, destination)
        link(source, destination)

    monkeypatch.setattr(os, "link", link_twice)
    objects = LocalObjects(tmp_path)
    assert objects.create("rows/0.json", b"ours") is True
    assert objects.create("rows/0.json", b"theirs") is False
    assert files(tmp_path) == ["rows/0.json"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EISDIR])
@pytest.mark.parametrize(
    ("owner", "inner", "ask"),
    [
        (Path, "read_bytes", lambda objects: objects.read("rows/a")),
        (Path, "stat", lambda objects: objects.etag("rows/a")),
        (os, "scandir", lambda objects: objects.names("rows/")),
        (Path, "iterdir", lambda objects: objects.folders("")),
    ],
)
def test_a_folder_that_cannot_be_read_is_an_error_of_the_store(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    owner: object,
    inner: str,
    ask: Callable[[LocalObjects], object],
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    objects = LocalObjects(tmp_path)
    objects.create("rows/a", b"row")
    with monkeypatch.context() as patch:
        patch.setattr(owner, inner, broken)
        with pytest.raises(StoreError, match=os.strerror(number)) as raised:
            ask(objects)
    assert raised.value.exit_code == 5
    assert raised.value.where.startswith(str(tmp_path))


def test_below_a_file_lies_nothing(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    objects.create("rows", b"a file")
    with pytest.raises(FileNotFoundError):
        objects.read("rows/a/0000.json")
    assert objects.etag("rows/a/0000.json") is None
    assert objects.names("rows/a/") == objects.folders("rows/a/") == []
