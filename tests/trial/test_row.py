"""What a row says of where its cell ran."""

from __future__ import annotations

from lotus_ray.trial.row import resources_of


def test_a_row_keeps_the_smallest_part_of_a_gpu_of_all_attempts() -> None:
    """Other cells had a whole GPU all the time, or none."""
    whole, part = {"workers": 1}, {"workers": 1, "gpus_per_worker": 0.25}
    larger = {**part, "gpus_per_worker": 0.5}
    assert resources_of({"resources": whole}, [larger, part, whole], compiled=True) == {
        **part,
        "compiled": True,
    }
    assert resources_of({"resources": whole}, [whole, whole]) == whole
