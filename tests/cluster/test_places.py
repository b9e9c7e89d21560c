"""When places start, what is said of those that end, and that no thread stays in Ray. No Ray."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("ray")

import ray
import ray.train

from lotus_ray.base.errors import ClusterError, DataError, LotusRayError, StoreError
from lotus_ray.cluster import places as module
from lotus_ray.cluster import train_function, trials
from lotus_ray.cluster.places import Places, keep_place
from lotus_ray.job.schema.resources import Resources

NO_FOLDER = DataError("no prepared data set here")


class Call:
    """A method of an actor, which answers at once."""

    def __init__(self, answer: Callable[..., Any]) -> None:
        self.remote = answer


class Dispatcher:
    """The dispatcher's actor, of a grid with ten cells."""

    def __init__(self) -> None:
        self.closed: list[Exception] = []
        self.lines = ["place 1: decoding"]
        self.last = ""
        self.places = Call(lambda: 2)
        self.left = Call(lambda: 10)
        self.notes = Call(lambda: [self.lines.pop()] if self.lines else [])
        self.close = Call(self.closed.append)
        self.causes: list[object] = []
        self.groups: list[object] = []  # of the place's workers
        self.ended: list[str] = []  # places that are gone for good
        self.lost = Call(self._lost)
        self.gone = Call(self.ended.append)
        self.take_group = Call(lambda place: self.groups.pop() if self.groups else None)

    def _lost(self, place: str, cause: object) -> str:
        self.causes.append(cause)
        return self.last


class Grid:
    """Places that are threads which wait, until the test ends them with an error or without."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.begun: list[str] = []
        self.dispatcher = Dispatcher()
        self.most: Callable[[], int] = lambda: 2
        self._ends: dict[str, LotusRayError | None] = {}
        self.places = Places(Resources(), "")

    def keep(
        self, place: str, resources: Resources, scratch: str, is_stopped: Callable[[], bool]
    ) -> None:
        self.begun.append(place)
        while place not in self._ends and not is_stopped():
            time.sleep(0.002)
        if error := self._ends.get(place):
            raise error

    def end(self, place: str, error: LotusRayError | None = None) -> None:
        self._ends[place] = error


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> Iterator[Grid]:
    made = Grid()
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(module, "STOP_SECONDS", 0.01)
    monkeypatch.setattr(module, "keep_place", made.keep)
    monkeypatch.setattr(module, "cluster_address", lambda: "")
    monkeypatch.setattr(module, "most_places", lambda resources, started: made.most())
    monkeypatch.setattr(ray, "get", lambda answer: answer)
    monkeypatch.setattr(ray, "wait", lambda answers, timeout: (answers, []))
    yield made
    made.places.stop()


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_a_place_that_ends_with_an_error_is_said_and_another_starts(grid: Grid) -> None:
    """Three places may fail. Then no more start, and those that are there go on."""
    grid.places.start(2)
    grid.places.follow(grid.dispatcher, grid.lines.append)
    for failed, begun in (("1", 3), ("3", 4), ("2", 4)):
        grid.end(failed, NO_FOLDER)
        until(lambda name=failed: f"place {name} has ended: {NO_FOLDER.what}" in grid.lines)
        until(lambda count=begun: len(grid.begun) == count)
    time.sleep(0.1)  # for further looks
    assert (grid.places.running, grid.begun) == (1, ["1", "2", "3", "4"])
    assert grid.dispatcher.closed == []
    assert grid.lines[0] == "place 1: decoding"
    assert len(grid.lines) == 4


def test_a_grid_all_of_whose_places_failed_ends_with_their_error(grid: Grid) -> None:
    """Each place is named, and the dispatcher gets the first error itself."""
    grid.most = lambda: 0
    grid.places.start(2)
    grid.end("1", NO_FOLDER)
    grid.end("2", StoreError("there is none"))
    until(lambda: not grid.places.running)
    grid.places.follow(grid.dispatcher, grid.lines.append)
    until(lambda: grid.dispatcher.closed)
    assert len(grid.dispatcher.closed) == 1
    assert isinstance(grid.dispatcher.closed[0], DataError | StoreError)
    assert sorted(grid.lines[1:]) == [
        "place 1 has ended: no prepared data set here",
        "place 2 has ended: there is none",
    ]


def test_places_follow_what_fits_and_what_is_left(grid: Grid) -> None:
    grid.places.start(1)
    grid.places.follow(grid.dispatcher, grid.lines.append)
    until(lambda: len(grid.begun) == 2)
    grid.most = lambda: 30
    until(lambda: len(grid.begun) == 10)  # as many as cells are left
    time.sleep(0.05)
    assert (grid.places.running, grid.places.most) == (10, 10)


@pytest.mark.parametrize(
    "error", [ClusterError("too small"), ray.exceptions.RpcError("busy"), OSError(5)]
)
def test_a_look_that_fails_is_repeated(grid: Grid, error: Exception) -> None:
    """Whatever it is: without looks a grid whose places have all failed would never end."""
    fails = [error] * 3

    def most() -> int:
        if fails:
            raise fails.pop()
        return 3

    grid.most = most
    grid.places.start(1)
    grid.places.follow(grid.dispatcher, grid.lines.append)
    until(lambda: len(grid.begun) == 3)
    assert grid.dispatcher.closed == []


def test_places_that_are_stopped_leave_no_thread_and_start_none(grid: Grid) -> None:
    grid.places.start(2)
    grid.places.follow(grid.dispatcher, grid.lines.append)
    until(lambda: len(grid.begun) == 2)
    before = threading.active_count()
    grid.places.stop()
    assert threading.active_count() == before - 3
    grid.places.start(9)
    assert grid.places.running == 0


class Kept:
    """A place of a cluster, as the task that keeps it: it runs until it is cancelled, or ends."""

    def __init__(self) -> None:
        self.is_done = False
        self.cancelled = 0
        self.where: list[object] = []

    def options(self, *, scheduling_strategy: object, **_: object) -> Kept:
        self.where.append(scheduling_strategy)
        return self

    def remote(self, *_: object) -> Kept:
        return self


@pytest.mark.parametrize(("done", "cancelled"), [(True, 0), (False, 1)])
def test_places_of_a_cluster_end_before_its_command_leaves(
    grid: Grid, monkeypatch: pytest.MonkeyPatch, done: bool, cancelled: int
) -> None:
    """One that is done ends by itself; one that waits for a node, or runs, is cancelled.

    Only so Ray Train ends the detached actor that it keeps for each.
    """
    kept = Kept()

    def wait(answers: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        if not kept.is_done:
            time.sleep(min(timeout, 0.01))
        return (answers, []) if kept.is_done else ([], answers)

    def cancel(place: Kept) -> None:
        place.cancelled += 1
        place.is_done = True

    monkeypatch.setattr(module, "CANCEL_SECONDS", 0.1)
    on_a_cluster(monkeypatch, kept)
    monkeypatch.setattr(ray, "wait", wait)
    monkeypatch.setattr(ray, "cancel", cancel)
    grid.places.start(1)
    time.sleep(0.05)
    kept.is_done = done
    grid.places.end()
    assert (grid.places.running, kept.cancelled) == (0 if done else 1, 0)
    grid.places.stop()
    assert (grid.places.running, kept.cancelled) == (0, cancelled)


def on_a_cluster(monkeypatch: pytest.MonkeyPatch, kept: Kept) -> None:
    """Join a cluster, on which such a place runs."""
    monkeypatch.setattr(module, "cluster_address", lambda: "head:6379")
    monkeypatch.setattr(module, "beside_this", lambda: "beside the command")
    monkeypatch.setattr(ray, "remote", lambda _: kept)


def test_the_first_places_are_kept_beside_the_command_as_far_as_its_memory_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A quarter of 8 GiB is two of them. The others are spread; all come back where there is room.

    Ray Train's controller stands beside what keeps a place. So the loss of a node ends the cells of
    that node, and no others.
    """
    kept = Kept()
    on_a_cluster(monkeypatch, kept)
    monkeypatch.setattr(module, "STOP_SECONDS", 0.01)
    monkeypatch.setattr(module, "available_memory", lambda: 8 << 30)
    monkeypatch.setattr(ray, "wait", lambda answers, timeout: (answers * kept.is_done, []))
    monkeypatch.setattr(ray, "get", lambda answer: answer)
    monkeypatch.setattr(ray, "cancel", lambda place: None)
    places = Places(Resources(), "")
    places.start(4)
    until(lambda: len(kept.where) == 4)
    assert sorted(map(str, kept.where)) == ["SPREAD", "SPREAD", *["beside the command"] * 2]
    kept.is_done = True
    until(lambda: not places.running)
    kept.is_done = False
    places.start(1)
    until(lambda: len(kept.where) == 5)
    assert kept.where[-1] == "beside the command"
    places.stop()


class Controller:
    """What a thread in Ray's hands waits for, and which it alone has a handle of."""

    def __init__(self) -> None:
        self.killed = threading.Event()


def test_what_a_thread_waits_for_is_killed_before_ray_is_shut_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A plan fails while two places start: the second one only gets its controller later."""
    shut_down: list[int] = []
    before = threading.active_count()

    class Session:
        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            shut_down.append(threading.active_count() - before)

    def fit(*about: object) -> None:
        if about[-1] == "place-2":
            time.sleep(0.1)
        controller = Controller()
        controller.killed.wait(20)
        raise ray.exceptions.RayActorError

    monkeypatch.setattr(module, "STOP_SECONDS", 0.02)
    monkeypatch.setattr(module, "ActorHandle", Controller)
    monkeypatch.setattr(module, "cluster_address", lambda: "")
    monkeypatch.setattr(ray, "kill", lambda controller: controller.killed.set())
    monkeypatch.setattr(train_function, "run_on_workers", fit)
    monkeypatch.setattr(trials, "session", Session)
    monkeypatch.setattr(trials, "cluster_address", lambda: "")
    monkeypatch.setattr(trials, "concurrent_trials", lambda *_: 2)
    begin = time.monotonic()
    with pytest.raises(DataError, match="no prepared"), trials.cluster(Resources()):
        raise NO_FOLDER
    assert shut_down == [0]
    assert time.monotonic() - begin < 10


def kept(
    monkeypatch: pytest.MonkeyPatch,
    story: list[tuple[Exception | None, str]],
    dispatcher: Dispatcher | None = None,
) -> tuple[LotusRayError | None, int]:
    """Keep a place whose workers end as a story says. Return its error, and how often they ran.

    Args:
        monkeypatch: takes Ray away.
        story: what ends the workers each time, and which start of them claimed last.
        dispatcher: hears of it.
    """
    dispatcher, ran = dispatcher or Dispatcher(), 0

    def run(*_: object) -> LotusRayError | None:
        nonlocal ran
        error, dispatcher.last = story[ran]
        ran += 1
        if isinstance(error, LotusRayError):
            return error
        if error is not None:
            raise error
        return None

    monkeypatch.setattr(train_function, "run_on_workers", run)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(ray, "get_actor", lambda name: dispatcher)
    monkeypatch.setattr(ray, "get", lambda answer: answer)
    try:
        keep_place("7", Resources(), "")
    except LotusRayError as error:
        return error, ran
    return None, ran


DIED = ray.train.TrainingFailedError("workers died three times")
GONE = ray.exceptions.RayActorError()
GOING = ray.exceptions.ActorUnschedulableError("the node does not exist any more")


@pytest.mark.parametrize(
    ("story", "error", "ran"),
    [
        ([(None, "a")], None, 1),
        ([(NO_FOLDER, "a"), (None, "a")], "no prepared data set here", 1),
        # Workers that claimed start again, however often they die.
        ([(DIED, "a"), (DIED, "b"), (GONE, "c"), (DIED, "d"), (None, "d")], None, 5),
        # Ray has started them three times, and none claimed.
        ([(DIED, ""), (None, "")], "place 7 died before they claimed a cell, 3 times", 1),
        ([(DIED, "a"), (DIED, "a"), (None, "")], "before they claimed a cell, 3 times", 2),
        # The death of a controller is one death: its node is gone.
        ([(GONE, ""), (GONE, ""), (None, "")], None, 3),
        ([(GONE, "")] * 4, "before they claimed a cell, 3 times", 3),
        ([(GONE, ""), (GONE, ""), (GONE, "a"), (GONE, "a"), (None, "a")], None, 5),
        # This node goes, and takes no controller. That is no death: Ray moves the place.
        ([(GOING, ""), (GOING, ""), (GOING, ""), (GOING, ""), (None, "a")], None, 5),
        # The dispatcher started again, and knows no start any more.
        ([(DIED, "a"), (GONE, ""), (GONE, ""), (None, "")], None, 4),
    ],
)
def test_a_place_whose_workers_die_before_they_claim_ends(
    monkeypatch: pytest.MonkeyPatch,
    story: list[tuple[Exception | None, str]],
    error: str | None,
    ran: int,
) -> None:
    found, times = kept(monkeypatch, story)
    assert times == ran
    assert (found is None) == (error is None)
    assert error is None or error in str(found)


def test_a_controller_that_is_gone_leaves_no_resources_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ray's own cleaner needs the dashboard. Ray takes an argument that is its error for a loss."""
    removed: list[object] = []
    monkeypatch.setattr(module, "remove_placement_group", removed.append)
    dispatcher = Dispatcher()
    dispatcher.groups = ["second group", "first group"]
    story: list[tuple[Exception | None, str]] = [(DIED, "a"), (GONE, "b"), (GONE, "c"), (GONE, "d")]
    assert kept(monkeypatch, [*story, (None, "d")], dispatcher) == (None, 5)
    assert removed == ["first group", "second group"]  # Ray removes that of workers that died
    assert not any(isinstance(cause, ray.exceptions.RayError) for cause in dispatcher.causes)
    assert len(dispatcher.causes) == 4
    assert dispatcher.ended == ["7"]


def test_a_node_that_says_it_goes_and_stays_ends_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAVING_SECONDS", 0.0015)
    with pytest.raises(ray.exceptions.ActorUnschedulableError):
        kept(monkeypatch, [(GOING, "")] * 4)
