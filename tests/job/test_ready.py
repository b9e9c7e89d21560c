"""Which cell comes next, by hand."""

from __future__ import annotations

from lotus_ray.job.ready import ReadyTasks, Task, most_at_once


def task(name: str, seconds: float, needs: str | None = None, after: str | None = None) -> Task:
    return Task(name, name, 0, seconds, needs, after)


def taken(ready: ReadyTasks) -> list[str]:
    """Take all that is ready now."""
    found = []
    while each := ready.take():
        found.append(each.cell_id)
    return found


def test_a_group_that_is_stayed_with_comes_first() -> None:
    """Its longest task, then its others; without one of its own, the longest of all."""
    cells = [("a", 0, 5.0), ("b", 1, 9.0), ("c", 0, 7.0), ("d", 1, 1.0)]
    ready = ReadyTasks([Task(name, name, group, seconds) for name, group, seconds in cells])
    found = [each.cell_id for stay in (0, 0, 0, None) if (each := ready.take(stay))]
    assert found == ["c", "a", "b", "d"]
    assert (ready.left, ready.take(0)) == (0, None)


def test_the_longest_comes_first_and_an_original_counts_with_its_longest_method() -> None:
    """o 2 + 9, p 5 + 1: o is first; x, of a committed original, takes 8 and lies between."""
    tasks = [
        task("p", 5),
        task("o", 2),
        task("o1", 9, "o"),
        task("o2", 3, "o"),
        task("p1", 1, "p"),
        task("x", 8, "committed before"),
    ]
    ready = ReadyTasks(tasks)
    assert taken(ready) == ["o", "x", "p"]
    assert ready.left == 3
    ready.ended(tasks[1])
    assert taken(ready) == ["o1", "o2"]
    ready.ended(tasks[0])
    assert taken(ready) == ["p1"]
    assert ready.left == 0


def test_a_gold_standard_begins_beside_its_original_and_never_before() -> None:
    ready = ReadyTasks([task("gold", 9, after="o"), task("o", 1), task("m", 1, needs="o")])
    assert taken(ready) == ["o", "gold"]


def test_what_needs_a_cell_without_a_row_is_dropped() -> None:
    """The original's trial ended in an error; its gold standard had begun already."""
    original = task("o", 1)
    ready = ReadyTasks([original, task("a", 1, "o"), task("b", 1, "o"), task("gold", 1, after="o")])
    assert taken(ready) == ["o", "gold"]
    assert len(ready.drop(original)) == 2
    assert (ready.left, ready.take()) == (0, None)


def test_equal_cells_keep_their_order() -> None:
    assert taken(ReadyTasks([task(name, 1) for name in "abc"])) == ["a", "b", "c"]


def test_how_many_cells_can_run_at_once() -> None:
    """Three methods after their original, a gold standard beside it, a method whose original is."""
    cells = [
        task("original", 9),
        task("gold", 9, after="original"),
        *(task(f"method {number}", 1, needs="original") for number in range(3)),
        task("late", 1, needs="an original that has a row"),
        task("other original", 9),
    ]
    assert most_at_once(cells) == 3 + 1 + 1 + 1
    assert most_at_once(cells[:1]) == most_at_once(cells[::2][:2]) == 1
    assert most_at_once([]) == 0
