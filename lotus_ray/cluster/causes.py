"""Find the error that ended a trial, explain it, and send it to another process."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

from ray.exceptions import RayError

from lotus_ray.base.errors import ClusterError, LotusRayError, StoreError


def explain(error: Exception, what: str) -> LotusRayError:
    """Return our own error if one caused `error`, or else a ClusterError with the first cause.

    Args:
        error: from Ray.
        what: happened, for the ClusterError.
    """
    causes = list(causes_of(error))
    ours = [cause for cause in causes if isinstance(cause, LotusRayError)]
    if ours:
        return ours[-1]
    last = str(causes[-1]).strip().splitlines()[-1:]
    return ClusterError(
        f"{what}: {type(causes[-1]).__name__}: {' '.join(last)}",
        next_command="run the same command again: committed cells are kept",
    )


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes, as recorded by Ray or Python, outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = getattr(error, "cause", None) or error.__cause__


def store_error(error: Exception | None) -> StoreError | None:
    """Return the store's error if one ended a worker, or None."""
    return next((cause for cause in causes_of(error) if isinstance(cause, StoreError)), None)


def first_failure(error: Exception) -> Exception:
    """Return the error of the failed worker with the lowest rank, or else the error itself."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    return failures[min(failures)] if failures else error


def sendable(error: Exception) -> Exception:
    """Return an error that another process can read: itself, its first cause, or its text.

    Ray takes an argument that is one of its own errors for a result that is lost, and does not make
    the call.
    """
    if isinstance(error, RayError):
        causes = [each for each in causes_of(error) if not isinstance(each, RayError)]
        ours = [each for each in causes if isinstance(each, LotusRayError)]
        first = [*causes, *ours][-1] if causes else None
        text = RuntimeError(f"{type(error).__name__}: {error}")
        return sendable(first) if isinstance(first, Exception) else text
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
