"""Errors that one process sends to another through Ray."""

from __future__ import annotations

import pytest

pytest.importorskip("ray")

from ray.exceptions import ActorDiedError, OutOfMemoryError, RayError, RayTaskError

from lotus_ray.base.errors import DataError
from lotus_ray.cluster.causes import explain, sendable


class Unreadable(Exception):
    """An error that no other process can read."""

    def __reduce__(self) -> str:
        raise TypeError


@pytest.mark.parametrize("error", [ActorDiedError(), OutOfMemoryError("x")])
def test_an_error_of_ray_is_sent_as_its_text(error: Exception) -> None:
    """As an argument it would be a result that is lost, and the call would not be made."""
    sent = sendable(error)
    assert not isinstance(sent, RayError)
    assert str(sent).startswith(f"{type(error).__name__}: ")
    assert str(error).splitlines()[-1] in explain(sent, "a place ended").what


def test_what_an_error_of_ray_has_in_it_is_sent_itself() -> None:
    cause = DataError("no prepared data set here", where="/data")
    sent = sendable(RayTaskError("f", "traceback", cause).as_instanceof_cause())
    assert sent is cause
    assert sendable(cause) is cause


def test_an_error_that_cannot_be_read_elsewhere_is_sent_as_its_text() -> None:
    sent = sendable(Unreadable("half a tensor"))
    assert (type(sent), str(sent)) == (RuntimeError, "Unreadable: half a tensor")
