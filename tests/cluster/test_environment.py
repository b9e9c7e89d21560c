"""What the environment says of Ray, and how soon a command says what is wrong with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lotus_ray import cluster
from lotus_ray.base.errors import ClusterError, StoreError
from lotus_ray.cluster.environment import (
    ANOTHER_TOKEN,
    cluster_address,
    first_line,
    wrong_address,
    wrong_folder,
    wrong_token,
)
from lotus_ray.cluster.session import session
from lotus_ray.grid.run import check_store_stays
from lotus_ray.store.results import Store

SESSION = """
from lotus_ray.base.errors import ClusterError
from lotus_ray.cluster.capacity import check_this_machine
from lotus_ray.cluster.session import session
from lotus_ray.job.schema.resources import Resources
for start in (lambda: check_this_machine(Resources()), session().__enter__):
    try:
        start()
    except ClusterError as error:
        print(error.exit_code, error.what)
        print(error.next_command)
"""


def started(**environment: str) -> subprocess.CompletedProcess[str]:
    """Look at this machine and start a session, each of which is to fail."""
    left = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_AUTH", "RAY_ADDRESS"))}
    return subprocess.run(
        [sys.executable, "-c", SESSION],
        env=left | environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.mark.parametrize("address", ["", "local"])
def test_a_ray_of_this_command_is_no_cluster_to_join(address: str) -> None:
    assert cluster_address({"RAY_ADDRESS": address}) == cluster_address({}) == ""
    assert wrong_address({"RAY_ADDRESS": address}) is None


@pytest.mark.parametrize(
    ("address", "line"),
    [("", "starting Ray"), ("auto", "joining the cluster at RAY_ADDRESS=auto")],
)
def test_a_command_says_which_ray_it_waits_for(address: str, line: str) -> None:
    assert first_line({"RAY_ADDRESS": address}) == line


@pytest.mark.parametrize(
    ("address", "words"),
    [("head", "it is not host:port"), ("127.0.0.1:1", "Connection refused")],
)
def test_what_cannot_be_connected_to_is_told(address: str, words: str) -> None:
    wrong = wrong_address({"RAY_ADDRESS": address})
    assert wrong is not None
    assert wrong.what == f"nothing answers at RAY_ADDRESS={address}: {words}"
    assert wrong_address({"RAY_ADDRESS": "auto"}) is None


def test_no_command_waits_for_a_cluster_that_is_not_there() -> None:
    """Ray alone tries for four minutes, and prints about it."""
    ended = started(RAY_ADDRESS="127.0.0.1:1")
    assert (
        ended.stdout.splitlines()
        == [
            "6 nothing answers at RAY_ADDRESS=127.0.0.1:1: Connection refused",
            "unset RAY_ADDRESS   (or ray up cluster.yaml)",
        ]
        * 2
    )
    assert ended.stderr == ""


def test_ray_client_is_refused_and_its_password_not_repeated() -> None:
    ended = started(RAY_ADDRESS="ray://me:secret@head:10001")
    assert (
        ended.stdout.splitlines()
        == [
            "6 RAY_ADDRESS=ray://… is not for this command, which runs inside the cluster",
            "ray job submit --address http://head:8265 -- lotus-ray doctor",
        ]
        * 2
    )
    assert "secret" not in ended.stdout + ended.stderr


def test_a_token_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """Unless the token is in the environment, or the cluster is said to want none."""
    (tmp_path / "empty").write_text("\n")
    for name, why in (("none", "No such file or directory"), ("empty", "it is empty")):
        told = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / name)}
        wrong = wrong_token(told)
        assert wrong is not None
        assert wrong.what == f"the token file cannot be read: {why}"
        assert wrong.next_command.startswith("unset RAY_AUTH_TOKEN_PATH")
        joining = told | {"RAY_ADDRESS": "head:6379"}
        assert (wrong := wrong_token(joining)) is not None
        assert wrong.next_command == ANOTHER_TOKEN
        assert wrong_token(told | {"RAY_AUTH_TOKEN": "token"}) is None
        assert wrong_token(told | {"RAY_AUTH_MODE": "disabled"}) is not None  # Ray starts here
        assert wrong_token(joining | {"RAY_AUTH_MODE": "disabled"}) is None


def test_a_session_without_its_token_file_ends_like_any_error(tmp_path: Path) -> None:
    ended = started(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(tmp_path / "none"))
    assert ended.stdout.splitlines()[0] == (
        "6 the token file cannot be read: No such file or directory"
    )
    assert ended.stderr == ""


def test_a_temporary_folder_whose_path_is_too_long_for_sockets_is_told(tmp_path: Path) -> None:
    """107 bytes fit. Without a folder, Ray's part of the path has 61 and the process's number."""
    room = 107 - 61 - len(str(os.getpid()))
    for name in ("TMPDIR", "RAY_TMPDIR"):
        assert wrong_folder({name: "/" + "x" * (room - 1), "HOME": str(tmp_path)}) is None
        wrong = wrong_folder({name: "/" + "é" * room, "HOME": str(tmp_path)})
        assert wrong is not None
        assert wrong.what.endswith(f"{2 * room + 1} bytes, and at most {room} fit")
        assert wrong.next_command == f"export {name}=/tmp"
    long = {"TMPDIR": "/" + "x" * 200}
    assert wrong_folder(long | {"RAY_ADDRESS": "head:6379"}) is None  # Ray does not start here
    short = {"RAY_TMPDIR": "/tmp", "HOME": str(tmp_path)}  # this one counts
    assert wrong_folder(long | short) is None


def test_a_home_that_cannot_hold_the_token_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for home, why in (("/proc/nohome", "No such file or directory"), (None, "Not a directory")):
        wrong = wrong_folder({"HOME": home or str(tmp_path / "file")})
        assert wrong is not None
        assert wrong.what == f"Ray cannot keep its token in the home folder: {why}"
        assert wrong.next_command.startswith("export HOME=FOLDER")
        assert wrong_folder({"HOME": home or "", "RAY_AUTH_TOKEN": "token"}) is None
    assert wrong_folder({"HOME": str(tmp_path)}) is None
    (tmp_path / ".ray" / "auth_token").write_text("token")
    assert wrong_folder({"HOME": str(tmp_path)}) is None


def test_a_command_says_at_once_what_keeps_ray_from_starting(tmp_path: Path) -> None:
    ended = started(TMPDIR=str(tmp_path / ("x" * 100)))
    assert ended.stdout.splitlines()[0].startswith(
        "6 the path of the temporary folder is too long for Ray's sockets: "
    )
    assert ended.stderr == ""


def test_whatever_ray_raises_at_its_start_is_our_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine: Ray raises a bare Exception."""

    def init(**_: object) -> None:
        raise Exception("The current node timed out during startup.\nSee the logs.")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("lotus_ray.cluster.session.ray.init", init)
    with pytest.raises(ClusterError) as raised, session():
        pass
    assert raised.value.exit_code == 6
    assert raised.value.what == (
        "Ray cannot be started: The current node timed out during startup."
    )
    assert "--local" in raised.value.next_command


@pytest.mark.parametrize(("dashboard", "notes"), [("127.0.0.1:8265", 0), ("", 1), (None, 1)])
def test_a_cluster_without_a_dashboard_gets_a_note(
    dashboard: str | None,
    notes: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Ray Train cannot free there what a lost place holds on another node."""
    joined = SimpleNamespace(dashboard_url=dashboard)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setattr("lotus_ray.cluster.session.ray.init", lambda **_: joined)
    monkeypatch.setattr("lotus_ray.cluster.session.ray.shutdown", lambda: None)
    with session():
        pass
    assert capsys.readouterr().err.count("note: this cluster has no dashboard") == notes


@pytest.mark.parametrize("runtime_env", [{}, {"env_vars": None}, None])
def test_what_workers_find_is_ours_where_the_job_says_nothing(
    runtime_env: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    assert not cluster.in_submitted_job()
    assert cluster.environment_of_workers() == cluster.ENVIRONMENT
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": runtime_env}))
    assert cluster.in_submitted_job()
    assert cluster.environment_of_workers() == cluster.ENVIRONMENT


def test_what_the_job_sets_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray refuses a variable that both set, whatever the values."""
    chosen = {"env_vars": {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "2", "OTHER": "1"}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": chosen}))
    ours = dict(cluster.ENVIRONMENT)
    del ours["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"]
    assert cluster.environment_of_workers() == ours


def test_a_store_that_would_go_with_the_job_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray runs a job with a working directory in a copy of it, and deletes that afterwards."""
    uploaded = {"runtime_env": {"working_dir": "gcs://_ray_pkg_1.zip"}}
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    check_store_stays(Store.open("runs"))
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(uploaded))
    check_store_stays(Store.open("../runs"))
    check_store_stays(Store.open(str(tmp_path / "runs")))
    with pytest.raises(StoreError, match="which Ray deletes"):
        check_store_stays(Store.open("runs"))
