"""Check whether the cluster at RAY_ADDRESS can be reached, and whether it demands a token."""

from __future__ import annotations

import ipaddress
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from lotus_ray.cli.doctor.finding import OK, PROBLEM, WARNING, Finding
from lotus_ray.cluster.environment import ANOTHER_TOKEN, cluster_address, wrong_environment

PROBE_SECONDS = 15  # most of it is the import of Ray
_TOKEN = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
_PASSING = re.compile(r"\[[^]]* [DIW] \d+ \d+\]")  # [time LEVEL process thread]
_BOILERPLATE = re.compile(
    r"^\[[^]]*\] \S+:\d+:\s*|An unexpected system state has occurred\..* Check failed: \S+\s*"
)
Probe = Callable[[str, Mapping[str, str]], dict[str, Any]]


def probe(address: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """Read facts about a cluster in another process, within PROBE_SECONDS.

    Args:
        address: host:port, or auto.
        environment: of the process.

    Returns:
        See `cluster.probe.ask`.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "lotus_ray.cluster.probe", address],
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            env=dict(environment),
            check=False,
        )
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"error": "unreachable", "message": f"no answer in {PROBE_SECONDS} s"}
    except (ValueError, IndexError):
        return {"error": "unreachable", "message": cause(done.stderr) or "no answer"}
    return answer


def cause(stderr: str) -> str:
    """Return the line that says why a process died: the last of a traceback, or Ray's error.

    Ray's C++ prints warnings, one line about the failure, and its stack.
    """
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    if any(line.startswith("Traceback (") for line in lines):
        return lines[-1]
    errors = [line for line in lines if not _PASSING.match(line)]
    return _BOILERPLATE.sub("", errors[0]) if errors else ""


def without_token(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the same environment without a token for Ray."""
    left = {name: value for name, value in environment.items() if name not in _TOKEN}
    return left | {"RAY_AUTH_MODE": "disabled"}


def wants_token(address: str, environment: Mapping[str, str], ask: Probe = probe) -> bool | None:
    """Return True if a cluster rejects clients without a token; None if it does not answer.

    Args:
        address: host:port of the cluster.
        environment: of the question; its token is removed.
        ask: reads facts about a cluster.
    """
    answer = ask(address, without_token(environment))
    if "error" not in answer:
        return False
    return True if answer["error"] == "authentication" else None


def reachability(environment: Mapping[str, str] = os.environ, ask: Probe = probe) -> Finding:
    """Report which cluster `lotus-ray grid` would join, and whether it can join.

    Args:
        environment: with RAY_ADDRESS and the token.
        ask: reads facts about a cluster.
    """
    address = cluster_address(environment)
    if wrong := wrong_environment(environment):
        where = f" ({wrong.where})" if wrong.where else ""
        return Finding("ray", PROBLEM, f"{wrong.what}{where}", wrong.next_command)
    if not address:
        return Finding("ray", OK, "RAY_ADDRESS is not set: Ray starts here with each command")
    answer = ask(address, environment)
    if answer.get("error") == "authentication":
        text = f"the cluster at {address} demands another token: {answer['message']}"
        return Finding("ray", PROBLEM, text, ANOTHER_TOKEN)
    if "error" in answer:
        text = f"no Ray answers at {address}: {answer['message']}"
        return Finding("ray", PROBLEM, text, f"ray status --address {address}")
    return judge_cluster(address, answer, wants_token(address, environment, ask))


def judge_cluster(address: str, answer: Mapping[str, Any], authenticated: bool | None) -> Finding:
    """Report whether this machine can join a cluster that answers.

    Args:
        address: host:port of the cluster.
        answer: of `probe`.
        authenticated: True if the cluster rejects clients without a token; None if unknown.
    """
    nodes = [_node(node) for node in answer["nodes"]]
    text = f"{address} answers: ray {answer['ray']}, {len(nodes)} nodes alive: {'; '.join(nodes)}"
    if answer["ray"] != answer["ours"]:
        text = f"{text}; here is ray {answer['ours']}"
        return Finding("ray", PROBLEM, text, f"pip install 'ray[default]=={answer['ray']}'")
    if _minor(answer["python"]) != _minor(platform.python_version()):
        text = f"{text}; it runs Python {answer['python']}, here is {platform.python_version()}"
        return Finding("ray", PROBLEM, text, f"uv venv --python {answer['python']}")
    if authenticated is False:
        text = f"{text}; no authentication, anyone who can connect can run code there"
        alone = is_loopback(address)  # `exposure` reports its other ports
        return Finding(
            "ray", WARNING if alone else PROBLEM, text, "RAY_AUTH_MODE=token ray start --head …"
        )
    return Finding("ray", OK, text + ("; it demands a token" if authenticated else ""))


def is_loopback(address: str) -> bool:
    """Return True if only this machine can reach host:port; False if that is unknown."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _node(node: Mapping[str, Any]) -> str:
    amounts = node["resources"]
    parts = [f"{amounts[name]:g} {name}s" for name in ("CPU", "GPU") if amounts.get(name)]
    return f"{node['address']} ({', '.join(parts) or 'no CPU'})"


def _minor(text: str | None) -> list[str]:
    return (text or "").split(".")[:2]
