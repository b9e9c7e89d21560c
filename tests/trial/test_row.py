"""What a row says of where its cell ran."""

from __future__ import annotations

from lotus_ray.trial.row import with_attempts


def test_a_row_keeps_the_smallest_part_of_a_gpu_of_all_attempts() -> None:
    """Other cells had a whole GPU all the time, or none."""
    whole, part = {"workers": 1}, {"workers": 1, "gpus_per_worker": 0.25}
    found = with_attempts({"resources": whole}, [{**part, "gpus_per_worker": 0.5}, part, whole])
    assert found == {"resources": part}
    assert with_attempts({"resources": whole}, [whole, whole]) == {"resources": whole}
