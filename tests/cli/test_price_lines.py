"""The price of a grid as people read it, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lotus_ray.cli.price_lines import duration, hours, price_lines, size
from lotus_ray.job.cost import LEARNED, SCALED, TABLED, CellCost
from lotus_ray.job.price import Price
from lotus_ray.job.rates import Device
from lotus_ray.job.schema.resources import Resources
from lotus_ray.job.traffic import Traffic

# Two originals of an hour; three methods of two hours start from the first, one from the second.
PRICE = Price(
    costs={
        "o1": CellCost(3600, LEARNED),
        "o2": CellCost(3600, LEARNED),
        "a": CellCost(7200, LEARNED),
        "b": CellCost(7200, SCALED),
        "c": CellCost(7200, TABLED),
        "d": CellCost(7200, TABLED),
    },
    needs={"a": ["o1"], "b": ["o1"], "c": ["o1"], "d": ["o2"]},
    committed=5,
    resources=Resources(gpus_per_worker=1),
    device=Device("cuda", "NVIDIA H200"),
    traffic=Traffic(
        weights=346_000_000, remote=0, images=100_000, encoded=0, pixels=15_052_800_000
    ),
)


def test_the_price_says_hours_places_and_bytes() -> None:
    """10 GPU-hours. On 8 places: an hour, then two."""
    assert price_lines(PRICE) == [
        "to run: 6 cells, about 10 GPU-hours; 5 others have a row",
        "costs on NVIDIA H200: 3 learned from rows; 1 tabled at the speed of rows of other "
        "methods: no row of these on this device yet; 2 tabled at a rough "
        "speed: no row on this device yet",
        "time on places that are never idle: about 10 h on 1, 3 h on 8, 3 h on 64; "
        "the longest chain of cells takes 3 h",
        "to download, if this machine runs the cells: about 346 MB of pretrained weights",
        "to decode: 100,000 images to 15 GB of pixels",
    ]


def test_the_json_is_not_rounded() -> None:
    assert PRICE.to_json() == {
        "cells": 6,
        "committed": 5,
        "gpu_hours": 10.0,
        "device": "NVIDIA H200",
        "cells_by_source": {"learned": 3, "scaled": 1, "tabled": 2},
        "makespan_seconds": {"1": 36_000, "8": 10_800, "64": 10_800},
        "longest_chain_seconds": 10_800,
        "bytes": {
            "weights": 346_000_000,
            "remote": 0,
            "images": 100_000,
            "encoded": 0,
            "pixels": 15_052_800_000,
        },
    }


def test_workers_share_the_time_and_not_the_hours() -> None:
    """Two workers of 4 CPUs: half the time, and 4 CPU-hours for each of the 10 worker-hours."""
    resources = Resources(workers=2, cpus_per_worker=4)
    price = replace(PRICE, resources=resources, device=Device("cpu"))
    assert (price.hours, price.unit) == (40, "CPU")
    assert (price.seconds_on(1), price.longest_chain) == (18_000, 5_400)
    assert price_lines(price)[1].startswith("costs on a CPU: 3 learned")


def test_a_part_of_a_gpu_costs_its_part() -> None:
    price = replace(PRICE, resources=Resources(gpus_per_worker=0.25))
    assert price.hours == 2.5


def test_a_committed_original_is_no_part_of_a_chain() -> None:
    price = replace(PRICE, costs={"a": CellCost(7200, LEARNED)})
    assert price.longest_chain == 7200


def test_nothing_to_run_has_no_price() -> None:
    assert price_lines(replace(PRICE, costs={})) == []
    assert replace(PRICE, costs={}).to_json()["makespan_seconds"] == {"1": 0, "8": 0, "64": 0}


def test_what_is_downloaded_is_named() -> None:
    both = replace(PRICE, traffic=replace(PRICE.traffic, remote=2_000_000, encoded=5_500_000_000))
    assert price_lines(both)[-2:] == [
        "to download, if this machine runs the cells: about 346 MB of pretrained weights and "
        "at most 2 MB of Parquet files",
        "to decode: 100,000 images to 15 GB of pixels, from about 5.5 GB of local files",
    ]
    none = replace(PRICE, traffic=replace(PRICE.traffic, weights=0))
    assert price_lines(none)[-2].endswith(": nothing")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.04 s"),
        (33.4, "33 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "120 min"),
        (7200, "2 h"),
        (9000, "2.5 h"),
        (172_800, "2 days"),
    ],
)
def test_a_duration_has_two_of_its_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_hours_and_sizes() -> None:
    assert hours(0.5, "CPU") == "30 CPU-minutes"
    assert hours(1234.4, "GPU") == "1,234 GPU-hours"
    assert [size(n) for n in (999, 1000, 345_024, 10**12)] == [
        "999 bytes",
        "1 kB",
        "345 kB",
        "1 TB",
    ]
