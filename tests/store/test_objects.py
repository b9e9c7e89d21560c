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
from lotus_ray.store.objects import Blobs
from lotus_ray.store.objects.local import LocalBlobs
from lotus_ray.store.results import Store
from tests.races import race


@pytest.fixture
def blobs(place: str) -> Blobs:
    return Store.open(place).blobs


def files(folder: Path) -> list[str]:
    """Return every file below a folder, temporary ones too."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_of_two_that_create_an_object_one_wins_every_time(blobs: Blobs) -> None:
    turns = 100 if isinstance(blobs, LocalBlobs) else 20
    for turn in range(turns):
        name = f"rows/{turn}.json"
        won = race(lambda number, name=name: blobs.create(name, bytes([number]) * 2000))
        assert sorted(won) == [False, True]
        assert blobs.read(name) == bytes([won.index(True)]) * 2000
    assert len(blobs.names("rows/")) == turns


def test_a_reader_never_meets_half_an_object(blobs: Blobs) -> None:
    blobs.replace("outcome.json", b"a" * 100_000)
    done = threading.Event()

    def write() -> None:
        for turn in range(40):
            blobs.replace("outcome.json", (b"b", b"a")[turn % 2] * 100_000)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = [blobs.read("outcome.json")]
    while not done.is_set():
        seen.append(blobs.read("outcome.json"))
    writer.join()
    assert set(seen) <= {b"a" * 100_000, b"b" * 100_000}
    assert len(seen) > 1
    assert blobs.names("") == ["outcome.json"]


def test_create_keeps_what_is_there_and_replace_does_not(blobs: Blobs) -> None:
    assert blobs.create("a/b", b"first") is True
    assert blobs.create("a/b", b"second") is False
    assert blobs.read("a/b") == b"first"
    blobs.replace("a/b", b"third")
    assert blobs.read("a/b") == b"third"
    assert blobs.names("") == ["a/b"]


def test_names_leave_out_hidden_files_and_other_folders(blobs: Blobs) -> None:
    for name in ("rows/b/0000.json", "rows/a/0001.json", "rows/a/.0002.json.tmp", "roles/x"):
        blobs.create(name, b"")
    assert blobs.names("rows/") == ["rows/a/0001.json", "rows/b/0000.json"]
    assert blobs.names("nothing/") == []
    with pytest.raises(FileNotFoundError) as caught:
        blobs.read("nothing")
    assert caught.value.strerror == "No such file or directory"


def test_folders_with_names_that_begin_alike_are_told_apart(blobs: Blobs) -> None:
    for name in ("rows/a/0.json", "rows/ab/0.json", "rows/a.json"):
        blobs.create(name, name.encode())
    assert blobs.names("rows/a/") == ["rows/a/0.json"]
    blobs.delete_all("rows/a/")
    assert blobs.names("rows/") == ["rows/a.json", "rows/ab/0.json"]
    blobs.delete_all("rows/never/")


def test_folders_are_those_right_below(blobs: Blobs) -> None:
    assert blobs.folders("") == []
    for name in ("rows/b/0000.json", "rows/a/0001.json", "rows/x.json", "roles/x", "outcome.json"):
        blobs.create(name, b"")
    assert blobs.folders("") == ["roles/", "rows/"]
    assert blobs.folders("rows/") == ["rows/a/", "rows/b/"]
    assert blobs.folders("nothing/") == []


def test_a_list_is_whole_however_long_it_is(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers give at most 1,000 names at a time; moto gives as few as it is told."""
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "7")
    names = [f"rows/{number:03d}" for number in range(30)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: blobs.create(name, b"x"), names))
    assert blobs.names("rows/") == names
    blobs.delete_all("rows/")
    assert blobs.names("rows/") == []


def test_a_stamp_changes_with_the_content(blobs: Blobs) -> None:
    assert blobs.etag("borders/cell/0000.pt") is None
    stamps = set()
    for content in (b"one", b"two", b"three"):
        blobs.replace("borders/cell/0000.pt", content)
        stamps.add(blobs.etag("borders/cell/0000.pt"))
        assert blobs.etag("borders/cell/0000.pt") in stamps
    assert len(stamps) == 3


def test_a_large_object_goes_and_comes_in_parts(blobs: Blobs) -> None:
    content = os.urandom((8 << 20) + 17) * 2
    blobs.replace("weights", content)
    assert blobs.read("weights") == content
    blobs.replace("weights", content[:-1])
    assert blobs.read("weights") == content[:-1]


def test_an_empty_object_is_one(blobs: Blobs) -> None:
    assert blobs.create("empty", b"") is True
    blobs.replace("other", b"")
    assert (blobs.read("empty"), blobs.read("other")) == (b"", b"")
    assert blobs.etag("empty") is not None


def test_a_folder_goes_with_what_killed_writers_left(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    blobs.replace("borders/cell/0000.pt", b"one")
    (tmp_path / "borders" / "cell" / ".0001.pt.abc").write_bytes(b"half")
    blobs.replace("borders/other/0000.pt", b"two")
    blobs.delete_all("borders/cell/")
    blobs.delete_all("borders/never/")
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
    blobs = LocalBlobs(tmp_path)
    assert blobs.create("rows/0.json", b"ours") is True
    assert blobs.create("rows/0.json", b"theirs") is False
    assert files(tmp_path) == ["rows/0.json"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EISDIR])
@pytest.mark.parametrize(
    ("inner", "ask"),
    [
        ("read_bytes", lambda blobs: blobs.read("rows/a")),
        ("stat", lambda blobs: blobs.etag("rows/a")),
        ("rglob", lambda blobs: blobs.names("rows/")),
        ("iterdir", lambda blobs: blobs.folders("")),
    ],
)
def test_a_folder_that_cannot_be_read_is_an_error_of_the_store(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    inner: str,
    ask: Callable[[LocalBlobs], object],
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    blobs = LocalBlobs(tmp_path)
    blobs.create("rows/a", b"row")
    with monkeypatch.context() as patch:
        patch.setattr(Path, inner, broken)
        with pytest.raises(StoreError, match=os.strerror(number)) as raised:
            ask(blobs)
    assert raised.value.exit_code == 5
    assert raised.value.where.startswith(str(tmp_path))


def test_below_a_file_lies_nothing(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    blobs.create("rows", b"a file")
    with pytest.raises(FileNotFoundError):
        blobs.read("rows/a/0000.json")
    assert blobs.etag("rows/a/0000.json") is None
    assert blobs.names("rows/a/") == blobs.folders("rows/a/") == []
