"""cluster.yaml without a cloud: Ray's schema, and what that schema does not look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

FILE = Path(__file__).parent.parent / "cluster.yaml"


@pytest.fixture
def config() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return loaded


def test_ray_accepts_it(config: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(config))
    with pytest.raises(Exception, match="head_node_typ"):
        validate_config(prepare_config({**config, "head_node_typ": "head"}))


def test_the_head_computes_nothing_and_workers_are_spot_from_zero(config: dict[str, Any]) -> None:
    types = config["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0, "GPU": 0}
    assert "InstanceMarketOptions" not in types["head"]["node_config"]
    workers = [spec for name, spec in types.items() if name != config["head_node_type"]]
    assert len(workers) >= 1
    for worker in workers:
        assert worker["min_workers"] == 0
        assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_the_dashboard_is_on_loopback_and_every_node_wants_a_token(config: dict[str, Any]) -> None:
    starts = [
        command
        for kind in ("head", "worker")
        for command in config[f"{kind}_start_ray_commands"]
        if "ray start" in command
    ]
    assert len(starts) == 2
    assert all(command.startswith("RAY_AUTH_MODE=token ") for command in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
