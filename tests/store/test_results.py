from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

from lotus_ray.base.errors import StoreError
from lotus_ray.base.timestamps import unix_seconds
from lotus_ray.store.attempts import Attempt
from lotus_ray.store.files import MARKER
from lotus_ray.store.results import Store
from lotus_ray.store.row import FORMAT, OK, Artifact, Row
from lotus_ray.store.sealed import unsealed
from tests.races import race

FILES = {"weights.bin": b"w" * 50, "samples.bin": b"s" * 20}


@pytest.fixture
def store(place: str) -> Store:
    """A store of each kind."""
    opened = Store.open(place)
    opened.check_writable()
    return opened


@pytest.fixture
def local(tmp_path: Path) -> Store:
    """A store that is a folder."""
    opened = Store.open(str(tmp_path / "store"))
    opened.check_writable()
    return opened


def commit(store: Store, cell_id: str = "cell", row_version: int = 0, **row: Any) -> Row:
    """Begin and commit one attempt with two artifacts."""
    attempt = store.begin(cell_id, row_version, {})
    return store.commit(attempt, Row.from_json({"format": FORMAT, "status": OK, **row}), FILES)


def row_name(cell_id: str = "cell", row_version: int = 0) -> str:
    """Return the name of a row."""
    return f"rows/{cell_id}/{row_version:04d}.json"


def flipped(content: bytes, place: int) -> bytes:
    """Flip the lowest bit of one byte; in JSON no such flip leaves the meaning as it was."""
    changed = bytearray(content)
    changed[place] ^= 1
    return bytes(changed)


def flip(store: Store, name: str, place: int) -> None:
    """Flip a bit of an object."""
    store.objects.replace(name, flipped(store.objects.read(name), place))


def files(folder: Path) -> list[str]:
    """Return every file below a folder, temporary ones too."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_committed_row_says_what_it_was_given_and_what_was_written(store: Store) -> None:
    row = commit(store, metrics={"accuracy": 0.1 + 0.2})
    attempt = row.attempt_id
    name = f"attempts/cell/{attempt}/weights.bin"
    digests = {file: hashlib.sha256(content).hexdigest() for file, content in FILES.items()}
    assert row == Row(
        status=OK,
        metrics={"accuracy": 0.1 + 0.2},
        cell_id="cell",
        attempt_id=attempt,
        row_version=0,
        attempts=1,
        artifacts={
            "weights.bin": Artifact(name, digests["weights.bin"], 50),
            "samples.bin": Artifact(name.replace("weights", "samples"), digests["samples.bin"], 20),
        },
    )
    assert store.row("cell") == row
    assert store.rows() == {"cell": row}
    assert store.artifact(row, "weights.bin") == FILES["weights.bin"]


def test_a_row_is_seen_through_another_handle(store: Store) -> None:
    row = commit(store)
    assert Store.open(store.uri).rows() == {"cell": row}


def test_nothing_is_visible_before_the_commit(store: Store) -> None:
    store.begin("cell", 0, {"host": "a"})
    assert store.row("cell") is None
    assert store.rows() == {}
    assert store.attempts("cell") == 1


def test_what_is_known_of_a_try_is_kept_from_its_start(store: Store) -> None:
    attempt = store.begin("cell", 0, {"device": "abacus"})
    marker = json.loads(store.objects.read(f"{attempt.folder}/begun.json"))
    assert abs(time.time() - (unix_seconds(marker.pop("begun_at")) or 0)) < 60
    assert marker == {
        "cell_id": "cell",
        "attempt_id": attempt.attempt_id,
        "row_version": 0,
        "device": "abacus",
    }


def test_what_each_try_had_is_known_in_order(store: Store) -> None:
    """Two tries for the row before a forced one, then two for that; a torn marker is one worker."""
    for row_version, workers in ((0, 4), (0, 2), (1, 2), (1, 3)):
        store.begin("cell", row_version, {"resources": {"workers": workers}})
        time.sleep(0.002)  # moments are kept to the millisecond
    assert [had["workers"] for had in store.resources_by_attempt("cell")] == [4, 2, 2, 3]
    assert store.resources_by_attempt("cell", 1) == [{"workers": 2}, {"workers": 3}]
    assert store.resources_by_attempt("other") == []
    torn = store.begin("torn", 0, {"resources": {"workers": 2}})
    store.objects.replace(f"{torn.folder}/begun.json", b'{"resou')
    assert store.resources_by_attempt("torn", 0) == [{"workers": 1}]


def test_the_second_writer_of_a_row_version_receives_the_row_of_the_first(store: Store) -> None:
    first, second = store.begin("cell", 0, {}), store.begin("cell", 0, {})
    ours = store.commit(first, Row(status=OK, extra={"value": 1}), FILES)
    theirs = store.commit(second, Row(status=OK, extra={"value": 2}), FILES)
    assert theirs == ours
    assert store.row("cell") == ours
    assert ours.extra["value"] == 1


def test_committing_the_same_attempt_again_is_success(store: Store) -> None:
    attempt = store.begin("cell", 0, {})
    rows = [store.commit(attempt, Row(status=OK), FILES) for _ in range(2)]
    assert rows[0] == rows[1]
    assert len(store.objects.names("rows/")) == 1


def test_a_retry_supersedes_a_failed_row_and_leaves_it_on_the_disk(store: Store) -> None:
    assert store.next_row_versions()["cell"] == 0
    commit(store, status="failed")
    before = store.objects.read(row_name())
    assert store.next_row_versions()["cell"] == 1
    row = commit(store, row_version=1)
    assert store.row("cell") == row
    assert (row.status, row.row_version, row.attempts) == (OK, 1, 2)
    assert store.objects.read(row_name()) == before


def test_row_versions_are_ordered_as_numbers(store: Store) -> None:
    """As text, 10000 would come before 9999."""
    commit(store, row_version=9999)
    assert commit(store, row_version=10000).row_version == 10000
    assert store.rows()["cell"].row_version == 10000
    assert store.next_row_versions()["cell"] == 10001


def test_cells_do_not_mix(store: Store) -> None:
    rows = {name: commit(store, name, status=name) for name in ("a", "ab", "b")}
    assert store.rows() == rows
    assert store.row("a") == rows["a"]
    assert store.attempts("a") == 1
    assert store.row("c") is None


def test_a_row_torn_at_any_length_is_ignored(
    local: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """The last byte is the end of the line; without it the row is still whole."""
    row = commit(local)
    whole = local.objects.read(row_name())
    path = Path(local.location) / row_name()
    for length in range(len(whole) - 1):
        caplog.clear()
        path.write_bytes(whole[:length])
        assert local.row("cell") is None
        assert local.rows() == {}
        assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    path.write_bytes(whole[:-1])
    assert local.row("cell") == row


def test_a_row_with_any_byte_flipped_is_ignored(local: Store) -> None:
    commit(local)
    whole = local.objects.read(row_name())
    for spot in range(len(whole)):
        (Path(local.location) / row_name()).write_bytes(flipped(whole, spot))
        assert local.row("cell") is None


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"{}", b'{"row": 1}', b"\xff\xfe"])
def test_a_file_that_is_no_row_is_ignored(store: Store, content: bytes) -> None:
    row = commit(store)
    store.objects.replace(row_name(row_version=1), content)
    assert store.row("cell") == row


@pytest.mark.parametrize(
    "name", ["notes.json", "0001.json.bak", "0001 (copy).json", "1.json", "deeper/0001.json"]
)
def test_a_file_that_is_not_ours_is_passed_over(
    store: Store, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    row = commit(store)
    store.objects.create(f"rows/cell/{name}", b"{}")
    assert store.rows() == {"cell": row}
    assert store.row("cell") == row
    assert store.next_row_versions()["cell"] == 1
    assert caplog.records == []


def test_a_flipped_row_is_named_and_the_earlier_one_is_visible_again(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    earlier = commit(store, status="failed")
    commit(store, row_version=1)
    flip(store, row_name(row_version=1), 200)
    assert store.row("cell") == earlier
    assert "rows/cell/0001.json does not match its digest and is ignored" in caplog.text
    assert store.next_row_versions()["cell"] == 2


def test_a_cell_whose_only_row_is_flipped_runs_again(store: Store) -> None:
    commit(store)
    flip(store, row_name(), 200)
    row = commit(store, row_version=store.next_row_versions()["cell"])
    assert store.row("cell") == row
    assert row.row_version == 1


def test_a_commit_over_a_flipped_row_of_its_row_version_is_an_error(store: Store) -> None:
    commit(store)
    flip(store, row_name(), 200)
    with pytest.raises(StoreError, match="cannot be read back"):
        commit(store)


@pytest.mark.parametrize("spot", [0, 25, 49])
def test_a_flipped_artifact_is_an_error_that_names_it(store: Store, spot: int) -> None:
    row = commit(store)
    name = row.artifacts["weights.bin"].name
    flip(store, name, spot)
    with pytest.raises(StoreError, match="changed since it was written") as caught:
        store.artifact(row, "weights.bin")
    assert caught.value.where == store.address(name)
    assert caught.value.exit_code == 5
    assert store.artifact(row, "samples.bin") == FILES["samples.bin"]


def test_a_missing_artifact_is_an_error_that_names_it(store: Store) -> None:
    row = commit(store)
    name = row.artifacts["weights.bin"].name
    store.remove_all(name.removesuffix("weights.bin"))
    with pytest.raises(StoreError, match="cannot be read: No such file") as caught:
        store.artifact(row, "weights.bin")
    assert caught.value.where == store.address(name)


def test_an_artifact_that_reads_back_differently_keeps_its_row_away(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that reads other bytes than were written; a server that received other bytes."""
    attempt, read = store.begin("cell", 0, {}), store.objects.read
    if store.folder:
        monkeypatch.setattr(store.objects, "read", lambda name: flipped(read(name), 0))
    else:
        import obstore

        put = obstore.put
        monkeypatch.setattr(
            obstore, "put", lambda at, name, content, **how: put(at, name, flipped(content, 0))
        )
    with pytest.raises(StoreError, match="reads back differently"):
        store.commit(attempt, Row(status=OK), FILES)
    assert store.row("cell") is None


def test_a_row_cannot_hold_nan(store: Store) -> None:
    with pytest.raises(ValueError, match="JSON"):
        commit(store, metrics={"accuracy": float("nan")})
    assert store.rows() == {}


def test_of_two_that_commit_a_row_version_both_receive_one_row(store: Store) -> None:
    for row_version in range(20):
        rows = race(lambda number, g=row_version: commit(store, row_version=g, seed=number))
        assert rows[0] == rows[1] == store.row("cell")
        assert rows[0].row_version == row_version
    assert len(store.objects.names("rows/")) == 20


def test_put_and_replace_reach_the_disk(store: Store) -> None:
    store.put("roles/x.parquet", b"one")
    store.replace("outcome.json", b"one")
    store.replace("outcome.json", b"two")
    assert store.objects.read("roles/x.parquet") == b"one"
    assert store.objects.read("outcome.json") == b"two"
    assert store.rows() == {}


@pytest.mark.parametrize("found", [b"", b"on", b"onf"])
def test_what_is_torn_or_flipped_is_put_anew(
    store: Store, found: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store.put("roles/x.parquet", b"one")
    etag = store.etag("roles/x.parquet")
    store.put("roles/x.parquet", b"one")
    assert (store.etag("roles/x.parquet"), caplog.messages) == (etag, [])
    store.replace("roles/x.parquet", found)
    store.put("roles/x.parquet", b"one")
    assert store.find("roles/x.parquet") == b"one"
    assert [m.endswith("is damaged and is replaced") for m in caplog.messages] == [True]


def test_a_name_too_long_for_a_folder_is_no_store() -> None:
    with pytest.raises(StoreError, match="no such folder"):
        Store.open("x" * 5000)


def test_opening_a_store_writes_nothing(place: str) -> None:
    opened = Store.open(place)
    assert opened.rows() == {}
    assert opened.folder is None or not opened.folder.exists()
    with pytest.raises(StoreError, match="no metric store here") as caught:
        opened.check_exists()
    assert caught.value.next_command == f"lotus-ray grid JOB.yaml --store {place}"
    opened.check_writable()
    store_id = opened.store_id()
    opened.check_writable()
    opened.check_exists()
    assert opened.objects.names("") == [MARKER]
    assert opened.store_id() == store_id
    assert opened.folder is None or files(opened.folder) == [MARKER]


def test_a_store_is_known_by_its_id_wherever_it_is_opened(store: Store, tmp_path: Path) -> None:
    store_id = store.store_id() or ""
    assert Store.open(store.location).access_error(store_id) == ""
    other = Store.open(str(tmp_path / "other"))
    assert other.access_error(store_id) == "there is none"
    other.check_writable()
    assert other.access_error(store_id) == "it is another store"


def test_addresses_of_objects_are_for_people(store: Store) -> None:
    """Without what an address of a bucket says of its server."""
    assert store.address("outcome.json") == store.uri.partition("?")[0] + "/outcome.json"


def test_a_place_that_creates_twice_is_no_store(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a server does that does not know If-None-Match."""
    opened = Store.open(place)
    monkeypatch.setattr(opened.objects, "create", lambda *put: opened.objects.replace(*put) or True)
    with pytest.raises(StoreError, match="must not create an object that exists") as caught:
        opened.check_writable()
    assert caught.value.exit_code == 5
    assert opened.objects.names("") == []
    assert not opened.exists()


def test_a_relative_store_is_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    opened = Store.open("runs/a")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    opened.check_writable()
    assert opened.uri == "runs/a"
    assert opened.location == str(tmp_path / "runs/a")
    assert files(tmp_path) == [f"runs/a/{MARKER}"]


@pytest.mark.parametrize("uri", ["https://me:canary@host/runs", "file:///runs", "az://runs"])
def test_a_kind_of_store_that_does_not_exist_is_refused(uri: str) -> None:
    with pytest.raises(StoreError) as caught:
        Store.open(uri)
    assert "canary" not in str(caught.value)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("uri", ["s3://bucket/runs", "gs://bucket/runs"])
def test_a_bucket_without_its_package_says_what_to_install(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "lotus_ray.store.objects.cloud", raising=False)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(StoreError) as caught:
        Store.open(uri)
    assert caught.value.what.endswith("needs the package obstore, which is not installed")
    assert (caught.value.where, caught.value.exit_code) == (uri, 5)
    assert caught.value.next_command == "pip install 'lotus-ray[cloud]'"
    assert caught.value.nearest


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="is a file") as caught:
        Store.open(str(tmp_path / "file"))
    assert caught.value.where == str(tmp_path / "file")


def test_a_store_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    opened = Store.open(str(tmp_path / "file" / "store"))
    with pytest.raises(StoreError, match="cannot be written: Not a directory") as caught:
        opened.check_writable()
    assert caught.value.where.startswith(str(tmp_path / "file" / "store" / "probe-"))


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full; 1000 bytes are needed"),
        (errno.EDQUOT, "the disk is full; 1000 bytes are needed"),
        (errno.EROFS, "Read-only file system"),
        (errno.EACCES, "Permission denied"),
        (errno.EIO, "Input/output error"),
    ],
)
@pytest.mark.parametrize(
    ("call", "write"),
    [("fsync", "create"), ("link", "create"), ("fsync", "replace"), ("replace", "replace")],
)
def test_a_write_that_fails_says_why_and_leaves_nothing(
    local: Store, monkeypatch: pytest.MonkeyPatch, call: str, write: str, number: int, said: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    before = files(Path(local.location))
    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(StoreError) as caught:
        getattr(local.objects, write)("roles/x", b"x" * 1000)
    assert caught.value.what == f"the store cannot be written: {said}"
    assert caught.value.where == f"{local.location}/roles/x"
    assert files(Path(local.location)) == before


FULL_DISK = """
import resource, signal, sys
from lotus_ray.base.errors import StoreError
from lotus_ray.base.timestamps import unix_seconds
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
store = Store.open(sys.argv[1])
store.check_writable()
attempt = store.begin("cell", 0, {})
try:
    store.commit(attempt, Row(status="ok", setting="x" * int(sys.argv[2])), {"a": b"x" * 1000,
                 "b": b"x" * int(sys.argv[3])})
except StoreError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize(("row_bytes", "artifact_bytes"), [(9_000, 1_000), (100, 5_000)])
def test_a_full_disk_leaves_no_row(tmp_path: Path, row_bytes: int, artifact_bytes: int) -> None:
    """Files may have 4,096 bytes: once the row is larger, once an artifact is."""
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path, str(row_bytes), str(artifact_bytes)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 5, result.stderr
    assert "the disk is full" in result.stdout
    assert "bytes are needed" in result.stdout
    assert str(tmp_path) in result.stdout
    store = Store.open(str(tmp_path))
    assert store.rows() == {}
    assert not any("/." in name for name in files(tmp_path))
    row = commit(store, row_version=store.next_row_versions()["cell"])
    assert store.rows() == {"cell": row}


def test_a_disk_with_cache_space_takes_the_same_row(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path, "100", "1000"], check=True, timeout=60
    )
    assert list(Store.open(str(tmp_path)).rows()) == ["cell"]


class StoreMachine(RuleBasedStateMachine):
    """Writers that begin, crash, commit, meet and retry in any order, and bytes that flip."""

    attempts = Bundle("attempts")
    cells = st.sampled_from(["a", "b"])
    steps = 0  # that were taken in this process

    def __init__(self) -> None:
        super().__init__()
        StoreMachine.steps -= 1  # the invariants are checked once before the first
        self.folder = tempfile.mkdtemp()
        self.store = Store.open(self.folder)
        self.begun: dict[str, int] = {}
        self.committed: dict[str, dict[int, str | None]] = {}  # attempt by row version, or broken

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def visible(self, cell_id: str) -> str | None:
        """Return the attempt whose row should be visible."""
        rows = self.committed.get(cell_id, {})
        return next((rows[g] for g in sorted(rows, reverse=True) if rows[g]), None)

    def _begin(self, cell_id: str, row_version: int) -> Attempt:
        self.begun[cell_id] = self.begun.get(cell_id, 0) + 1
        return self.store.begin(cell_id, row_version, {})

    @rule(target=attempts, cell_id=cells)
    def begin(self, cell_id: str) -> Attempt:
        rows = self.committed.get(cell_id, {})
        assert self.store.next_row_versions()[cell_id] == max(rows, default=-1) + 1
        return self._begin(cell_id, self.store.next_row_versions()[cell_id])

    @rule(target=attempts, other=attempts)
    def begin_beside(self, other: Attempt) -> Attempt:
        return self._begin(other.cell_id, other.row_version)

    @rule(attempt=attempts)
    def write_an_artifact_only(self, attempt: Attempt) -> None:
        self.store.objects.create(f"{attempt.folder}/a", attempt.attempt_id.encode())

    @rule(attempt=consumes(attempts))
    def crash(self, attempt: Attempt) -> None:
        """Whatever the attempt wrote, nothing comes after it."""

    @rule(attempt=attempts, status=st.sampled_from([OK, "failed"]))
    def commit(self, attempt: Attempt, status: str) -> None:
        rows = self.committed.setdefault(attempt.cell_id, {})
        rows.setdefault(attempt.row_version, attempt.attempt_id)
        artifacts = {"a": attempt.attempt_id.encode(), "b": b""}
        if self.visible(attempt.cell_id) is None:
            with pytest.raises(StoreError):
                self.store.commit(attempt, Row(status=status), artifacts)
        else:
            row = self.store.commit(attempt, Row(status=status), artifacts)
            assert row.attempt_id == self.visible(attempt.cell_id)

    @rule(attempt=attempts, status=st.sampled_from([OK, "failed"]))
    def commit_beside_another(self, attempt: Attempt, status: str) -> None:
        """A twin begins, and both commit at the same moment: one of them wins, if none had won."""
        both = (attempt, self._begin(attempt.cell_id, attempt.row_version))
        rows = self.committed.setdefault(attempt.cell_id, {})
        new = attempt.row_version not in rows

        def write(number: int) -> Row | None:
            content = {"a": both[number].attempt_id.encode(), "b": b""}
            try:
                return self.store.commit(both[number], Row(status=status), content)
            except StoreError:
                return None

        found = race(write)
        if new:
            name = row_name(attempt.cell_id, attempt.row_version)
            row = unsealed(self.store.objects.read(name))
            assert row is not None
            assert row["attempt_id"] in [one.attempt_id for one in both]
            rows[attempt.row_version] = row["attempt_id"]
        assert found[0] == found[1]
        assert (found[0] and found[0].attempt_id) == self.visible(attempt.cell_id)

    @rule(cell_id=cells, row_version=st.integers(0, 2))
    def keep_a_checkpoint(self, cell_id: str, row_version: int) -> None:
        self.store.replace(f"borders/{cell_id}/{row_version:04d}.pt", b"border")

    @rule(cell_id=cells)
    def collect(self, cell_id: str) -> None:
        """What no row names goes; what one names stays, as the invariants say."""
        self.store.remove_all(f"borders/{cell_id}/")
        assert self.store.find(f"borders/{cell_id}/0000.pt") is None

    @rule(cell_id=cells, which=st.integers(0, 9), place=st.integers(0, 10_000))
    def flip_a_byte(self, cell_id: str, which: int, place: int) -> None:
        rows = self.committed.get(cell_id, {})
        good = [row_version for row_version, attempt in rows.items() if attempt]
        if good:
            row_version = good[which % len(good)]
            name = row_name(cell_id, row_version)
            flip(self.store, name, place % len(self.store.objects.read(name)))
            rows[row_version] = None

    @rule()
    def open_again(self) -> None:
        self.store = Store.open(self.folder)

    @invariant()
    def a_step_was_taken(self) -> None:
        StoreMachine.steps += 1

    @invariant()
    def the_visible_rows_are_those_that_should_be(self) -> None:
        found = self.store.rows()
        expected = {cell: self.visible(cell) for cell in self.committed if self.visible(cell)}
        assert {cell: row.attempt_id for cell, row in found.items()} == expected
        for cell_id in ("a", "b"):
            assert self.store.row(cell_id) == found.get(cell_id)

    @invariant()
    def every_artifact_of_a_visible_row_verifies(self) -> None:
        for row in self.store.rows().values():
            assert self.store.artifact(row, "a") == row.attempt_id.encode()
            assert self.store.artifact(row, "b") == b""

    @invariant()
    def every_try_is_counted(self) -> None:
        assert {cell: self.store.attempts(cell) for cell in self.begun} == self.begun


@pytest.mark.parametrize("steps", [1_000, pytest.param(10_000, marks=pytest.mark.faults)])
def test_the_store_keeps_its_promise_over_many_steps(
    steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At most one visible row a cell, all that it names whole, and nothing else collected."""
    caplog.set_level(logging.ERROR, logger="lotus_ray.store.results")
    memory = Path("/dev/shm")
    monkeypatch.setattr(tempfile, "tempdir", str(memory if memory.is_dir() else tmp_path))
    StoreMachine.steps, rounds = 0, 0
    while StoreMachine.steps < steps:  # how many an example takes is drawn
        rounds += 1
        assert rounds <= 20, StoreMachine.steps
        run_state_machine_as_test(
            StoreMachine,
            settings=settings(
                max_examples=steps // 45 if rounds == 1 else 25,
                stateful_step_count=50,
                deadline=None,
            ),
        )


TWO_DRIVERS = """
import json, sys, time
from pathlib import Path
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row

folder, me, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
store, won = Store.open(str(folder / "store")), 0
for turn in range(rounds):
    attempt = store.begin(f"cell{turn}", 0, {})
    (folder / f"{turn}.{me}").touch()
    while not (folder / f"{turn}.{1 - me}").exists():
        time.sleep(0)
    ours = Row(status="ok", extra={"driver": me})
    row = store.commit(attempt, ours, {"weights": attempt.attempt_id.encode()})
    print(row.attempt_id)
"""


def test_two_drivers_that_commit_at_the_same_moment_see_one_row(tmp_path: Path) -> None:
    """Two processes, 200 cells; they wait for each other before each commit."""
    rounds = 200
    store = Store.open(str(tmp_path / "store"))
    store.check_writable()
    drivers = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_DRIVERS, tmp_path, str(me), str(rounds)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for me in range(2)
    ]
    first, second = (driver.communicate(timeout=120)[0].split() for driver in drivers)
    assert [driver.returncode for driver in drivers] == [0, 0]
    rows = store.rows()
    assert [rows[f"cell{turn}"].attempt_id for turn in range(rounds)] == first == second
    assert len(store.objects.names("rows/")) == len(rows) == rounds
    assert {row.extra["driver"] for row in rows.values()} == {0, 1}
    for row in rows.values():
        assert store.artifact(row, "weights") == row.attempt_id.encode()


def test_the_home_of_nobody_is_refused() -> None:
    with pytest.raises(StoreError, match="no such folder"):
        Store.open("~nobody-of-this-name/store")
