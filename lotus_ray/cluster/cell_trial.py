"""One trial of Ray Tune: a cell. It is submitted until its row is committed.

Nothing here imports torch: the process of a trial waits, and dozens of them run on one node.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from ray.tune import Trainable

from lotus_ray.base.errors import ClusterError, LotusRayError
from lotus_ray.cluster.causes import explain, store_error
from lotus_ray.cluster.death_policy import MAX_RESTARTS, Death, Decision, decide
from lotus_ray.cluster.messages import Ask, Ended, Progress
from lotus_ray.store.late_row import committed_row
from lotus_ray.store.results import Store

MAX_UNBEGUN = 12  # deaths in a row before the cell began, if nobody says why: spot machines come
# and go, but a machine without the memory to begin would kill its workers for ever


@dataclass(frozen=True)
class Ticket:
    """What a trial knows of its cell."""

    ask: Ask
    label: str
    store: str
    row_version: int  # of the row that it waits for
    original: str  # id of its group's original
    original_version: int = 0  # of the original's row that the cell needs

    def is_settled(self, store: Store) -> bool:
        """Return True if the row of the cell is committed."""
        row = store.row(self.ask.cell_id)
        return row is not None and row.row_version >= self.row_version

    def cannot_run(self, store: Store) -> bool:
        """Return True if the cell needs an original, and that has failed."""
        if self.ask.cell_id == self.original or self.ask.after is not None:
            return False
        row = store.row(self.original)
        if row is None or row.row_version < self.original_version:
            return False  # it shows late; an older one tells nothing
        return not row.is_ok


class Line(Protocol):
    """The trial's line to the dispatcher."""

    def submit(self, ask: Ask) -> None:
        """Submit a cell."""

    def follow(self, cell_id: str, seen: Progress | None) -> Progress | Ended | None:
        """Wait until the cell moves on, as `Dispatcher.follow`."""

    def order(self, group: int) -> bytes:
        """Return a pickled work order."""

    def dropped(self, cell_id: str, error: Exception | None = None) -> None:
        """Say that the cell goes to no place, or to none again, and what ended its trial."""


def run_cell_trial(ticket: Ticket, line: Line) -> Iterator[dict[str, Any]]:
    """Have a cell run until its row is committed. Yield what it does.

    Args:
        ticket: of the cell.
        line: to the dispatcher.

    Yields:
        The `place` of the cell, and the `phase` that it trains, from 1; at the end when it ran.

    Raises:
        LotusRayError: the store, the images or the device cannot be used, or no place is left; or
            the row is committed, and does not show here.
    """
    store, cell_id = Store.open(ticket.store), ticket.ask.cell_id
    history = _History(ticket, store)
    if ticket.cannot_run(store):
        _fail(ticket, store, line, None)
    if ticket.is_settled(store):
        line.dropped(cell_id)
    causes: list[Exception | None] = []  # of deaths in a row before the cell began
    while not ticket.is_settled(store):
        begun, moved, seen = store.attempts(cell_id), None, None
        line.submit(ticket.ask)
        while (moved := line.follow(cell_id, seen)) is not None and not isinstance(moved, Ended):
            seen = moved
            yield vars(seen)
        if moved is None:
            continue  # another dispatcher has been started, or a place gave the cell back
        if failed := store_error(moved.error):
            raise failed  # the cell is not at fault
        if moved.pending:
            history.ignore(begun)
        elif moved.died:
            ran = store.attempts(cell_id) > begun
            causes = [] if ran else [*causes, moved.error]
            _raise_if_it_never_begins(causes)
            death = history.add(ran)
            if decide(death) is Decision.FAIL_CELL and not ticket.is_settled(store):
                _fail(ticket, store, line, moved.error or _killed())
                line.dropped(cell_id)
        elif moved.error is not None:
            raise moved.error
        else:
            if moved.span is not None:
                yield vars(moved.span)
            committed_row(store, cell_id, ticket.row_version)


def _raise_if_it_never_begins(causes: Sequence[Exception | None]) -> None:
    """Raise an error if workers died too often, one after another, before the cell began.

    Args:
        causes: of these deaths; None: a worker said nothing, as it was killed.
    """
    last = causes[-MAX_RESTARTS - 1 :]
    if len(last) > MAX_RESTARTS and last[-1] and all(last):
        raise explain(last[-1], "the workers died before the cell began, each time")
    if len(causes) >= MAX_UNBEGUN:
        cause = next((each for each in reversed(causes) if each), None) or _killed()
        raise explain(cause, f"the workers died {MAX_UNBEGUN} times before the cell began")


class _History:
    """The deaths of the workers that ran a cell, as seen in the store."""

    def __init__(self, ticket: Ticket, store: Store) -> None:
        self._ticket = ticket
        self._store = store
        self._counted = store.attempts(ticket.ask.cell_id)
        self._checkpoint: str | None = None  # etag at the last death

    def ignore(self, begun: int) -> None:
        """Do not count the attempts since there were `begun`: nobody has died."""
        self._counted += self._store.attempts(self._ticket.ask.cell_id) - begun

    def add(self, ran: bool) -> Death:
        """Return the facts of a death, and remember the cell's checkpoint.

        Args:
            ran: the cell had begun.
        """
        from lotus_ray.trial.checkpoints import StoredCheckpoints

        if not ran:
            return Death(cell_ran=False)
        store, cell_id = self._store, self._ticket.ask.cell_id
        attempts = store.attempts(cell_id) - self._counted
        name = StoredCheckpoints.file_name(cell_id, self._ticket.row_version)
        checkpoint = store.etag(name)
        came_further = checkpoint != self._checkpoint
        if came_further:
            self._checkpoint = checkpoint
            self._counted += attempts
        had = store.resources_by_attempt(cell_id)[-attempts:] if attempts else []
        grown = sum(later["workers"] > earlier["workers"] for earlier, later in pairwise(had))
        return Death(True, came_further, attempts, grown)


def _killed() -> ClusterError:
    return ClusterError(
        "the process of a worker died each time: it was killed, or the machine had no memory left",
        next_command="lotus-ray grid JOB.yaml --retry-failed   (the node's log says more)",
    )


def _fail(ticket: Ticket, store: Store, line: Line, cause: Exception | None) -> None:
    """Commit a failed row: of a cell whose workers died too often, or whose original failed."""
    from lotus_ray.trial.checkpoints import StoredCheckpoints
    from lotus_ray.trial.original import original_failed
    from lotus_ray.trial.row import failure, new_row

    work_order = pickle.loads(line.order(ticket.ask.group))
    cell = work_order.cell(ticket.ask.cell_id)
    attempt = store.attempt(cell.cell_id, ticket.row_version)
    fields = failure(cause or original_failed(work_order))
    store.commit(attempt, new_row(work_order.group, cell, **fields), {})
    store.remove_all(StoredCheckpoints.folder(cell.cell_id))


class CellTrial(Trainable):  # type: ignore[misc]
    """The trial, as Ray Tune runs it. Its process is used again for the next cell."""

    def setup(self, config: dict[str, Any], tickets: dict[str, Ticket], dispatcher: Any) -> None:
        """Begin with a cell."""
        self._tickets = tickets
        self._line = DispatcherLine(dispatcher)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin with another cell."""
        self._cell = new_config["cell"]
        self._reports = run_cell_trial(self._tickets[self._cell], self._line)
        self._known: dict[str, Any] = {"done": False}
        return True

    def step(self) -> dict[str, Any]:
        """Wait until the cell moves on; return all that is known of it.

        An error of ours is returned. Tune would run the trial again, as after the death of its
        process, and meet it again.
        """
        try:
            self._known |= next(self._reports, {"done": True})
        except LotusRayError as error:
            self._line.dropped(self._cell, error)
            self._known |= {"error": error, "done": True}
        return dict(self._known)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save nothing: the store has everything."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Load nothing."""


class DispatcherLine:
    """A line to the dispatcher's actor."""

    def __init__(self, dispatcher: Any) -> None:
        self._dispatcher = dispatcher

    def submit(self, ask: Ask) -> None:
        """Submit a cell."""
        self._ask("run", ask)

    def follow(self, cell_id: str, seen: Progress | None) -> Progress | Ended | None:
        """Wait until the cell moves on."""
        moved: Progress | Ended | None = self._ask("follow", cell_id, seen)
        return moved

    def order(self, group: int) -> bytes:
        """Return a pickled work order."""
        order: bytes = self._ask("order", group)
        return order

    def dropped(self, cell_id: str, error: Exception | None = None) -> None:
        """Say that the cell goes to no place, or to none again, and what ended its trial."""
        self._ask("dropped", [cell_id], error)

    def _ask(self, name: str, *arguments: Any) -> Any:
        import ray

        return ray.get(getattr(self._dispatcher, name).remote(*arguments))
