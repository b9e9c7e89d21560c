"""Stores that break their promise, each in its way."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lotus_ray.base.errors import StoreError
from lotus_ray.cli.doctor.finding import OK, PROBLEM, WARNING, Finding
from lotus_ray.cli.doctor.machine import GIB
from lotus_ray.cli.doctor.storage import storage
from lotus_ray.store.objects.local import LocalObjects
from lotus_ray.store.results import Store


class Never(LocalObjects):
    def create(self, name: str, content: bytes) -> bool:
        return False


class Overwrites(LocalObjects):
    """It says no, and does it."""

    def create(self, name: str, content: bytes) -> bool:
        new = not (self.root / name).exists()
        self.replace(name, content)
        return new


class Forgets(LocalObjects):
    def names(self, prefix: str) -> list[str]:
        return []


class Unreadable(LocalObjects):
    def read(self, name: str) -> bytes:
        raise PermissionError(13, "Permission denied")


def check(objects: LocalObjects) -> Finding:
    return storage("the store", lambda uri: Store(objects, uri, uri))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Never, "says that something new exists already"),
        (Overwrites, "replaces what it says exists already"),
        (Forgets, "does not list what was created"),
        (Unreadable, "it cannot be used: Permission denied"),
    ],
)
def test_each_broken_promise_is_a_problem(
    kind: type[LocalObjects], words: str, tmp_path: Path
) -> None:
    found = check(kind(tmp_path))
    assert (found.status, found.exit_code) == (PROBLEM, 5)
    assert words in found.text
    assert list(tmp_path.iterdir()) == []


def test_a_good_store_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    assert check(LocalObjects(tmp_path)).status == OK
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_disk_that_is_nearly_full_is_a_warning(tmp_path: Path) -> None:
    found = storage(str(tmp_path), free=lambda folder: (10 * GIB, GIB // 2))
    assert (found.status, found.exit_code) == (WARNING, 0)
    assert "0.5 of 10.0 GiB free" in found.text
    assert found.next_command.startswith("df -h")


@pytest.mark.parametrize(
    ("left", "status", "words"),
    [
        (100 << 20, WARNING, "0.1 of 10.0 GiB"),
        ((100 << 20) - 1, PROBLEM, "0.1 of 10.0 GiB"),
        (30 << 20, PROBLEM, "30.0 MiB of 10.0 GiB"),
        (0, PROBLEM, "0.0 MiB of 10.0 GiB"),
    ],
)
def test_a_disk_without_cache_space_for_a_row_is_a_problem(
    left: int, status: str, words: str, tmp_path: Path
) -> None:
    found = storage(str(tmp_path), free=lambda folder: (10 * GIB, left))
    assert (found.status, found.exit_code) == (status, 5 if status == PROBLEM else 0)
    assert words in found.text
    assert found.next_command.startswith("df -h")


def test_a_store_of_no_known_kind_is_a_problem() -> None:
    found = storage("carrier-pigeon://loft")
    assert found.status == PROBLEM
    assert "no store for 'carrier-pigeon://'" in found.text


def test_an_error_without_a_place_is_told_without_one() -> None:
    def refuses(uri: str) -> Store:
        raise StoreError("the bucket answers 403")

    found = storage("s3://b", refuses)
    assert (found.text, found.next_command) == (
        "the bucket answers 403",
        "lotus-ray doctor --store FOLDER",
    )
    assert storage(None).status == OK


def test_the_next_command_is_the_stores_own() -> None:
    def refuses(uri: str) -> Store:
        raise StoreError("no credentials", next_command="export AWS_ACCESS_KEY_ID=…")

    assert storage("s3://b", refuses).next_command == "export AWS_ACCESS_KEY_ID=…"


def test_a_bucket_that_does_not_answer_is_given_up_in_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A grid would ask for two minutes, and a cleanup for two more."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    began = time.monotonic()
    found = storage("s3://bucket/x")
    assert time.monotonic() - began < 60
    assert (found.status, found.exit_code) == (PROBLEM, 5)
    assert "no connection" in found.text
