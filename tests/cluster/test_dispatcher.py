"""Who gets which cell, without Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

pytest.importorskip("ray")

from lotus_ray.base.errors import ImagesDoNotFit, StoreError
from lotus_ray.cluster import dispatcher as module
from lotus_ray.cluster.dispatcher import Dispatcher
from lotus_ray.cluster.messages import CLOSE_GROUPS, Ask, Claim, Ended, Progress
from lotus_ray.job.spans import Span

ORDERS = [b"first group", b"second group"]
DONE = Ended(Span("a", "1", 0.0, 1.0))


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 20))


async def soon(waiting: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Begin to wait for something."""
    task = asyncio.ensure_future(waiting)
    await asyncio.sleep(0.01)
    return task


def name(claim: Claim | None) -> str | None:
    return claim.cell_id if claim else None


def test_the_longest_goes_first_and_a_loaded_group_before_what_is_about_as_long() -> None:
    async def story() -> None:
        there = Dispatcher(ORDERS, 4)
        for ask in (Ask("a", 0, 5), Ask("b", 1, 10), Ask("c", 0, 9.5), Ask("d", 0, 1)):
            await there.run(ask)
        claim = await there.claim("1", "s", 1, [0])
        # 9.5 is within a tenth of 10. What the place would get next is of the other group.
        assert claim == Claim("c", 0, b"first group", 1)
        assert name(await there.claim("2", "s", 1, [0])) == "b"  # 5 is not

    run(story())


def test_a_place_without_room_for_more_groups_stays_with_its_own() -> None:
    async def story() -> None:
        there = Dispatcher(ORDERS, 3)
        for ask in (Ask("a", 0, 5), Ask("b", 1, 10), Ask("c", 0, 1)):
            await there.run(ask)
        for number, cell in enumerate("acb"):
            assert name(await there.claim("1", "s", number, [0], stays=True)) == cell
            await there.ended("1", cell, DONE)

    run(story())


def test_a_place_hears_which_group_it_would_open_next() -> None:
    """What is loaded already, waits for its original, or was refused is no such group."""

    async def story() -> None:
        there = Dispatcher([*ORDERS, b"third group"], 5)
        asks = Ask("a", 0, 9), Ask("b", 1, 5), Ask("c", 2, 8, after="d"), Ask("e", 0, 7)
        for ask in asks:
            await there.run(ask)
        first = await there.claim("1", "s", 1, [])
        assert (name(first), first and first.next_group) == ("a", None)  # e follows
        second = await there.claim("2", "s", 1, [0, 2])
        assert (name(second), second and second.next_group) == ("e", 1)
        third = await there.claim("3", "s", 1, [])
        assert (name(third), third and third.next_group) == ("b", None)  # c waits for d
        await there.run(Ask("d", 2, 1))
        await there.run(Ask("f", 0, 3))
        assert await there.refused("3", third, RuntimeError("no such folder")) is not None
        fourth = await there.claim("3", "s", 2, [])
        assert (name(fourth), fourth and fourth.next_group) == ("f", 2)  # d, not b

    run(story())


def test_a_claim_waits_for_a_cell_and_a_trial_for_its_end() -> None:
    async def story() -> None:
        there = Dispatcher(ORDERS, 2)
        claim = await soon(there.claim("1", "s", 1, []))
        assert not claim.done()
        await there.run(Ask("a", 0, 1))
        assert name(await claim) == "a"
        assert await there.follow("a", None) == Progress("1")
        moved = await soon(there.follow("a", Progress("1")))
        await there.ended("1", "a", DONE)
        assert await moved == DONE
        assert await there.follow("unknown", None) is None

    run(story())


def test_an_answer_that_was_lost_is_given_again() -> None:
    """Ray repeats a call whose reply did not come: it must not look like a death."""

    async def story() -> None:
        there = Dispatcher(ORDERS, 2)
        await there.run(Ask("a", 0, 2))
        await there.run(Ask("a", 0, 2))  # submitted twice: one cell
        await there.run(Ask("b", 0, 1))
        assert name(await there.claim("1", "s", 1, [])) == "a"
        assert name(await there.claim("1", "s", 1, [])) == "a"
        assert name(await there.claim("2", "s", 1, [])) == "b"

    run(story())


def test_workers_that_start_again_have_lost_their_cell() -> None:
    async def story() -> None:
        there = Dispatcher(ORDERS, 2)
        await there.run(Ask("a", 0, 1))
        await there.claim("1", "first start", 1, [])
        await there.fell("1", MemoryError("full"))
        again = await soon(there.claim("1", "second start", 1, []))
        ended = await there.follow("a", Progress("1"))
        assert isinstance(ended, Ended)
        assert ended.died
        assert isinstance(ended.error, MemoryError)
        await there.run(Ask("a", 0, 1))  # its trial submits it again
        assert name(await again) == "a"
        assert await there.lost("1") == "second start"
        assert await there.lost("2") == ""  # it never claimed
        assert isinstance(await there.follow("a", Progress("1")), Ended)

    run(story())


def test_a_gold_standard_is_claimed_after_its_original() -> None:
    async def story() -> None:
        there = Dispatcher(ORDERS, 2)
        await there.run(Ask("gold", 0, 9, after="original"))
        claim = await soon(there.claim("1", "s", 1, []))
        assert not claim.done()
        await there.run(Ask("original", 0, 1))
        assert name(await claim) == "original"
        assert name(await there.claim("2", "s", 1, [])) == "gold"
        assert await there.runs("original")
        assert not await there.runs("another")
        assert not await there.has_failed("original")
        await there.ended("1", "original", Ended(error=StoreError("no space is left")))
        assert await there.has_failed("original")

    run(story())


def test_places_end_if_all_cells_that_are_left_run_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CLAIM_SECONDS", 0.05)

    async def story() -> None:
        there = Dispatcher(ORDERS, 3)
        for cell in "ab":
            await there.run(Ask(cell, 0, 1))
        await there.claim("1", "s", 1, [])
        await there.claim("2", "s", 1, [])
        assert await there.claim("3", "s", 1, []) is None
        assert not await there.is_over()  # a third cell will be submitted
        assert await there.left() == 3
        await there.dropped(["c"])  # it will not
        assert await there.is_over()
        assert await there.left() == 2  # as many places as that are of use
        assert await there.claim("3", "s", 1, []) is None

    run(story())


def test_a_grid_without_places_ends_every_trial() -> None:
    async def story() -> None:
        there = Dispatcher(ORDERS, 2)
        await there.run(Ask("a", 0, 1))
        moved = await soon(there.follow("a", None))
        error = RuntimeError("no place is left")
        await there.close(error)
        assert (await moved).error is error
        await there.run(Ask("late", 0, 1))
        late = await there.follow("late", None)
        assert isinstance(late, Ended)
        assert late.error is error

    run(story())


def test_a_dispatcher_that_was_started_again_learns_what_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Place 1 runs the original: its beat comes before anybody may claim. The other cell is free.

    The gold standard's original had begun under the earlier dispatcher.
    """
    monkeypatch.setattr(module, "LEARN_SECONDS", 0.05)

    async def story() -> None:
        there = Dispatcher(ORDERS, 3, again=True)
        await there.run(Ask("a", 0, 9))
        await there.run(Ask("gold", 0, 1, after="long ago"))
        claim = await soon(there.claim("2", "s", 7, []))
        await there.beat("1", "s", 4, Claim("a", 0, b""), 0)
        assert name(await claim) == "gold"
        assert await there.follow("a", None) == Progress("1")
        await there.ended("1", "a", DONE)
        assert await there.follow("a", Progress("1")) == DONE

    run(story())


def test_a_place_may_claim_while_it_commits() -> None:
    """The cell counts as running until its row is there: nobody else gets it."""

    async def story() -> None:
        there = Dispatcher(ORDERS, 2)
        await there.run(Ask("a", 0, 2))
        await there.run(Ask("b", 0, 1))
        await there.claim("1", "s", 1, [])
        await there.trained("1")
        assert await there.runs("a")
        assert name(await there.claim("1", "s", 2, [])) == "b"
        assert await there.is_over()  # both are at work
        await there.ended("1", "a", DONE)
        assert await there.follow("a", Progress("1")) == DONE
        assert await there.runs("b")
        assert not await there.runs("a")

    run(story())


def test_workers_that_start_again_have_lost_what_they_ran_and_what_they_committed() -> None:
    async def story() -> None:
        there = Dispatcher(ORDERS, 3)
        for cell in "abc":
            await there.run(Ask(cell, 0, 1))
        await there.claim("1", "first start", 1, [])
        await there.trained("1")
        await there.claim("1", "first start", 2, [])
        assert name(await there.claim("1", "second start", 1, [])) == "c"
        for cell in "ab":
            assert await there.follow(cell, Progress("1")) == Ended(died=True)

    run(story())


def test_workers_that_fell_while_they_only_committed_have_lost_that() -> None:
    async def story() -> None:
        there = Dispatcher(ORDERS, 2)
        for cell in "ab":
            await there.run(Ask(cell, 0, 1))
        await there.claim("1", "first start", 1, [])
        await there.trained("1")
        await there.fell("1", MemoryError("full"))
        assert name(await there.claim("1", "second start", 1, [])) == "b"
        ended = await there.follow("a", Progress("1"))
        assert isinstance(ended, Ended)
        assert ended.died
        assert isinstance(ended.error, MemoryError)

    run(story())


def test_a_dispatcher_that_was_started_again_learns_what_is_committed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LEARN_SECONDS", 0.05)

    async def story() -> None:
        there = Dispatcher(ORDERS, 3, again=True)
        for cell in "abc":
            await there.run(Ask(cell, 0, 1))
        claim = await soon(there.claim("2", "s", 7, []))
        await there.beat("1", "s", 4, Claim("a", 0, b""), None)
        await there.beat("1", "s", 5, Claim("b", 0, b""), 2)
        assert name(await claim) == "c"
        await there.ended("1", "a", DONE)
        assert await there.follow("a", None) == DONE
        assert await there.runs("b")

    run(story())


def test_a_trial_learns_of_each_phase() -> None:
    async def story() -> None:
        there = Dispatcher(ORDERS, 1)
        await there.run(Ask("a", 0, 1))
        claim = await there.claim("1", "s", 1, [])
        assert claim is not None
        moved = await soon(there.follow("a", Progress("1", 0)))
        await there.beat("1", "s", 1, claim, 0)
        await asyncio.sleep(0.01)
        assert not moved.done()
        await there.beat("1", "s", 1, claim, 1)
        assert await moved == Progress("1", 1)

    run(story())


def test_the_placement_group_of_a_place_is_given_away_once() -> None:
    async def story() -> None:
        there = Dispatcher(ORDERS, 1)
        assert await there.take_group("1") is None
        await there.keep_group("1", "first start")
        await there.keep_group("1", "second start")
        assert await there.take_group("1") == "second start"
        assert await there.take_group("1") is None

    run(story())


def test_lines_of_places_are_given_to_the_command_once() -> None:
    async def story() -> None:
        there = Dispatcher(ORDERS, 1)
        await there.note("place 1: decoding 400 images")
        assert await there.notes() == ["place 1: decoding 400 images"]
        assert await there.notes() == []

    run(story())


def test_a_place_that_is_silent_has_lost_its_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its node died, and Ray waits for another node before anybody says so."""
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.1)
    monkeypatch.setattr(module, "CLAIM_SECONDS", 0.0)

    async def story() -> None:
        there = Dispatcher(ORDERS, 2)
        for cell in "ab":
            await there.run(Ask(cell, 0, 1))
        silent, alive = await there.claim("1", "s", 1, []), await there.claim("2", "s", 1, [])
        assert silent
        assert alive
        for _ in range(3):
            await asyncio.sleep(0.05)
            await there.beat("2", "s", 1, alive, 1)
        assert await there.claim("3", "s", 1, []) is None  # it sees who is silent
        assert await there.follow("a", Progress("1")) == Ended(died=True)
        assert await there.runs("b")
        await there.run(Ask("a", 0, 1))  # its trial submits it again
        assert name(await there.claim("3", "s", 2, [])) == "a"
        await there.ended("1", "a", DONE)  # it was only slow: the first commit is the row
        assert await there.follow("a", Progress("3")) == DONE

    run(story())


def test_a_silent_place_is_found_where_no_place_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """One waits for the original that the silent one ran, and no other has started yet."""
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.1)

    async def story() -> None:
        there = Dispatcher(ORDERS, 2)
        await there.run(Ask("original", 0, 9))
        await there.run(Ask("gold", 0, 9, after="original"))
        assert name(await there.claim("1", "s", 1, [])) == "original"
        gold = await there.claim("2", "s", 1, [])
        assert name(gold) == "gold"
        await asyncio.sleep(0.2)
        await there.beat("2", "s", 1, gold, 1)
        assert await there.runs("original")
        assert await there.notes() == []  # as the command asks, all the time
        assert not await there.runs("original")
        ended = await there.follow("original", Progress("1"))
        assert isinstance(ended, Ended)
        assert ended.died
        assert await there.runs("gold")

    run(story())


def test_a_cell_ends_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails before its trial has a process; then the trial submits it, and learns of it."""
    monkeypatch.setattr(module, "CLAIM_SECONDS", 0.05)

    async def story() -> None:
        there, error = Dispatcher(ORDERS, 3), RuntimeError("no images")
        await there.run(Ask("a", 0, 1))
        await there.claim("1", "s", 1, [])
        await there.ended("1", "a", Ended(error=error))
        await there.run(Ask("a", 0, 1))  # by its trial
        assert await there.follow("a", None) == Ended(error=error)
        await there.dropped(["a"], error)  # by its trial, which ends with the error
        await there.dropped(["b"])
        await there.dropped(["b"])
        assert await there.left() == 1
        assert await there.claim("1", "s", 2, []) is None
        assert not await there.is_over()

    run(story())


def test_what_waits_for_a_cell_that_runs_no_more_may_begin() -> None:
    """Another command has committed the original: its trial ends without submitting it."""

    async def story() -> None:
        there = Dispatcher(ORDERS, 2)
        await there.run(Ask("gold", 0, 1, after="original"))
        claim = await soon(there.claim("1", "s", 1, []))
        assert not claim.done()
        await there.dropped(["original"])
        assert name(await claim) == "gold"

    run(story())


@pytest.mark.parametrize("before", [True, False])
def test_an_error_of_an_original_ends_its_gold_standard(before: bool) -> None:
    """Whether it is submitted before that, or after."""

    async def story() -> None:
        there, error = Dispatcher(ORDERS, 2), RuntimeError("the store does not answer")
        gold = Ask("gold", 0, 1, after="original")
        if before:
            await there.run(gold)
        await there.dropped(["original"], error)
        await there.run(gold)
        assert await there.follow("gold", None) == Ended(error=error)
        assert await there.left() == 0

    run(story())


def test_workers_that_are_gone_claim_nothing() -> None:
    """Their claim waits in the dispatcher while new workers of the place claim, too."""

    async def story() -> None:
        there = Dispatcher(ORDERS, 2)
        gone = await soon(there.claim("1", "old", 1, []))
        here = await soon(there.claim("1", "new", 1, []))
        await there.run(Ask("a", 0, 1))
        await there.run(Ask("b", 0, 2))
        assert name(await here) is not None
        assert await gone is None
        await there.beat("1", "old", 1, Claim("b", 0, b""), 0)
        held = [await there.runs(cell) for cell in "ab"]
        assert sorted(held) == [False, True]

    run(story())


def test_a_claim_that_is_asked_twice_gets_one_cell() -> None:
    async def story() -> None:
        there = Dispatcher(ORDERS, 2)
        asked = [await soon(there.claim("1", "s", 1, [])) for _ in range(2)]
        await there.run(Ask("a", 0, 1))
        await there.run(Ask("b", 0, 1))
        first, second = [name(await claim) for claim in asked]
        assert first == second is not None

    run(story())


def test_a_cell_whose_original_nobody_trains_runs_again_after_it() -> None:
    """The original's workers died: the gold standard, which is longer, is not claimed before it."""

    async def story() -> None:
        there = Dispatcher(ORDERS, 2)
        await there.run(Ask("original", 0, 1))
        await there.run(Ask("gold", 0, 9, after="original"))
        await there.claim("1", "s", 1, [])
        assert name(await there.claim("2", "s", 1, [])) == "gold"
        await there.lost("1")
        await there.ended("2", "gold", Ended(pending=True))
        assert await there.follow("gold", Progress("2")) == Ended(pending=True)
        assert await there.left() == 2
        for cell, seconds, after in (("gold", 9, "original"), ("original", 1, None)):
            await there.run(Ask(cell, 0, seconds, after))  # by their trials
        assert name(await there.claim("2", "s", 2, [])) == "original"
        assert name(await there.claim("3", "s", 1, [])) == "gold"

    run(story())


def test_a_cell_that_a_place_cannot_begin_goes_to_another_place() -> None:
    """Its trial hears of no death. The place itself gets cells of other groups alone."""

    async def story() -> None:
        there, error = Dispatcher(ORDERS, 3), RuntimeError("no such folder")
        await there.run(Ask("a", 0, 9))
        await there.run(Ask("b", 1, 1))
        claim = await there.claim("1", "s", 1, [])
        assert claim == Claim("a", 0, ORDERS[0], 1)
        assert await there.refused("1", claim, error) == Claim("", 1, ORDERS[1])
        assert await there.follow("a", Progress("1")) is None  # the trial submits it again
        await there.run(Ask("a", 0, 9))
        assert not await there.runs("a")
        assert name(await there.claim("1", "s", 2, [])) == "b"  # the other group can be opened
        assert name(await there.claim("2", "s", 1, [])) == "a"
        await there.ended("2", "a", DONE)
        assert await there.follow("a", Progress("2")) == DONE

    run(story())


def test_a_place_that_can_open_nothing_gets_no_other_group_and_ends_no_cell() -> None:
    async def story() -> None:
        there, error = Dispatcher(ORDERS, 2), RuntimeError("no such folder")
        await there.run(Ask("a", 0, 9))
        claim = await there.claim("1", "s", 1, [])
        assert claim
        other = await there.refused("1", claim, error)
        assert other
        assert await there.refused("1", other, error) is None
        assert await there.refused("1", other, error) is None  # Ray asks again
        assert await there.left() == 2
        assert name(await there.claim("2", "s", 1, [])) == "a"
        assert await there.refused("2", claim, error) == other
        again = await soon(there.claim("1", "new start", 1, []))  # on another node, perhaps
        assert name(await again) == "a"

    run(story())


def test_a_group_that_no_place_can_open_ends_with_its_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both places can open the other group. A third one is silent, and is not waited for."""
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.1)

    async def story() -> None:
        there, error = Dispatcher(ORDERS, 4), RuntimeError("image 7 cannot be decoded")
        for ask in (Ask("a", 0, 9), Ask("b", 1, 1)):
            await there.run(ask)
        third = await there.claim("3", "s", 1, [])
        assert name(third) == "a"
        await there.lost("3")
        await there.run(Ask("a", 0, 9))
        for place in "12":
            claim = await there.claim(place, "s", 1, [])
            assert claim == Claim("a", 0, ORDERS[0], 1)
            assert await there.refused(place, claim, error) is not None
        assert name(await there.claim("1", "s", 2, [])) == "b"
        waits = await soon(there.claim("2", "s", 2, []))
        assert await there.follow("a", None) == Ended(error=error)
        await there.run(Ask("c", 0, 1))  # of the same group, later
        assert await there.follow("c", None) == Ended(error=error)
        await there.run(Ask("d", 1, 1))
        assert name(await waits) == "d"

    run(story())


NO_ROOM = ImagesDoNotFit("no room")


def test_images_that_do_not_fit_are_tried_again_when_a_group_has_no_cell_left() -> None:
    """Place 2 has no room beside the cells of group 0 on place 1, and gets no other cell."""

    async def story() -> None:
        there = Dispatcher(ORDERS, 3)
        for ask in (Ask("a", 0, 9), Ask("b", 1, 8), Ask("c", 0, 1)):
            await there.run(ask)
        assert name(await there.claim("1", "s", 1, [])) == "a"
        claim = await there.claim("2", "s", 1, [])
        assert name(claim) == "b"
        assert await there.refused("2", claim, NO_ROOM) is None
        assert name(await there.claim("2", "s", 2, [])) == "c"
        await there.ended("1", "a", DONE)  # c of the same group still runs
        waits = await soon(there.claim("2", "s", 3, []))  # its workers have lost c
        assert name(await waits) == "b"

    run(story())


def test_a_place_that_waits_closes_its_groups_where_others_lack_room() -> None:
    """Then the others try again: what is closed may be removed."""

    async def story() -> None:
        there = Dispatcher(ORDERS, 3)
        for ask in (Ask("a", 0, 9), Ask("b", 1, 8)):
            await there.run(ask)
        assert name(await there.claim("1", "s", 1, [])) == "a"
        await there.ended("1", "a", DONE)
        waits = await soon(there.claim("1", "s", 2, [0]))  # b is for place 1, or for 2
        assert name(await waits) == "b"
        other = await soon(there.claim("2", "s", 1, [0]))
        assert not other.done()  # nobody lacks room: it keeps group 0 loaded
        claim = waits.result()
        assert claim is not None
        assert await there.refused("1", claim, NO_ROOM) is None
        assert name(await other) == "b"  # of which nobody has said that it does not fit there
        assert await there.refused("2", other.result(), NO_ROOM) is None
        assert await there.follow("b", Progress("2")) is None  # no error yet
        first = await soon(there.claim("1", "s", 3, []))
        assert name(await first) == "b"  # place 2 has closed its groups since

    run(story())


def test_a_waiting_place_hears_that_it_has_to_close_its_groups() -> None:
    """Place 2 has no room for b, and place 1 cannot open it. Place 1 closes what it has loaded.

    Then place 2 gets b again.
    """

    async def story() -> None:
        there = Dispatcher(ORDERS, 2)
        first = await soon(there.claim("2", "s", 1, []))
        await there.run(Ask("b", 1, 8))
        claim = await first
        assert await there.refused("2", claim, NO_ROOM) is None
        claim = await there.claim("1", "s", 1, [])
        assert await there.refused("1", claim, RuntimeError("an image is torn")) is not None
        waits = await soon(there.claim("2", "s", 2, []))
        assert not waits.done()
        assert await there.claim("1", "s", 2, [0]) == CLOSE_GROUPS
        assert not waits.done()
        closed = await soon(there.claim("1", "s", 3, []))
        assert waits.done()  # at once
        assert name(waits.result()) == "b"
        assert not closed.done()
        await there.close()
        assert await closed is None

    run(story())


def test_a_place_that_has_ended_leaves_its_room_to_others() -> None:
    """It ended because all cells that are left were held elsewhere. Then one came back."""

    async def story() -> None:
        there = Dispatcher(ORDERS, 2)
        for ask in (Ask("a", 0, 9), Ask("b", 1, 8)):
            await there.run(ask)
        assert name(await there.claim("1", "s", 1, [])) == "a"
        claim = await there.claim("2", "s", 1, [])
        assert await there.refused("2", claim, NO_ROOM) is None
        waits = await soon(there.claim("2", "s", 2, []))
        await there.ended("1", "a", DONE)
        assert name(await waits) == "b"
        assert await there.claim("1", "s", 2, [0]) is None
        assert await there.is_over()
        assert await there.refused("2", claim, NO_ROOM) is None  # 1 has not closed its group yet
        waits = await soon(there.claim("2", "s", 3, []))
        assert not waits.done()
        await there.gone("1")
        assert name(await waits) == "b"

    run(story())


def test_a_silent_place_leaves_its_room_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for a cell, with a group loaded, when its node dies."""
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.2)

    async def story() -> None:
        there = Dispatcher(ORDERS, 2)
        silent = await soon(there.claim("1", "s", 1, [0]))
        silent.cancel()
        await there.run(Ask("b", 1, 8))
        claim = await there.claim("2", "s", 1, [])
        assert await there.refused("2", claim, NO_ROOM) is None
        waits = await soon(there.claim("2", "s", 2, []))
        assert not waits.done()
        await asyncio.sleep(0.3)
        await there.notes()
        await there.run(Ask("c", 0, 1))  # wakes those who wait
        assert name(await waits) == "b"

    run(story())


def test_a_place_that_can_open_nothing_leaves_its_room_to_others() -> None:
    async def story() -> None:
        there = Dispatcher(ORDERS, 2)
        for ask in (Ask("a", 0, 9), Ask("b", 1, 8)):
            await there.run(ask)
        claim = await there.claim("2", "s", 1, [])
        assert name(claim) == "a"
        other = await there.claim("1", "s", 1, [])
        assert await there.refused("1", other, NO_ROOM) is None
        wrong = RuntimeError("the GPU is too small")
        assert await there.refused("2", claim, wrong) == Claim("", 1, ORDERS[1])
        waits = await there.claim("1", "s", 2, [])
        assert name(waits) == "a"
        assert await there.refused("1", waits, NO_ROOM) is None
        late = await soon(there.claim("1", "s", 3, []))
        assert not late.done()
        assert await there.refused("2", Claim("", 1, ORDERS[1]), wrong) is None
        assert name(await late) == "a"

    run(story())


def test_a_place_keeps_its_groups_where_it_alone_lacked_room() -> None:
    """Its group does not leave room for b, which waits. It closes it when it gets b itself."""

    async def story() -> None:
        there = Dispatcher(ORDERS, 4)
        for ask in (Ask("b", 1, 9), Ask("a", 0, 8), Ask("c", 0, 7)):
            await there.run(ask)
        claim = await there.claim("2", "s", 1, [])
        assert name(claim) == "b"
        assert await there.refused("2", claim, NO_ROOM) is None
        assert name(await there.claim("2", "s", 2, [])) == "a"
        other = await there.claim("1", "s", 1, [])
        assert await there.refused("1", other, RuntimeError("no such folder")) is not None
        assert name(await there.claim("1", "s", 2, [0])) == "c"
        await there.ended("2", "a", DONE)  # c of the same group still runs
        waits = await soon(there.claim("2", "s", 3, [0]))
        assert not waits.done()
        await there.ended("1", "c", DONE)
        assert name(await waits) == "b"

    run(story())


def test_images_that_fit_on_no_node_end_their_cells_when_nothing_is_loaded_any_more() -> None:
    async def story() -> None:
        there = Dispatcher(ORDERS, 2)
        for ask in (Ask("a", 0, 9), Ask("b", 1, 99)):
            await there.run(ask)
        claim = await there.claim("1", "s", 1, [])
        assert name(claim) == "b"
        assert await there.refused("1", claim, NO_ROOM) is None
        assert name(await there.claim("1", "s", 2, [])) == "a"
        await there.ended("1", "a", DONE)
        claim = await there.claim("1", "s", 3, [0])
        assert name(claim) == "b"
        assert await there.refused("1", claim, NO_ROOM) is None
        assert await there.claim("1", "s", 4, []) is None
        assert await there.follow("b", None) == Ended(error=NO_ROOM)

    run(story())
