"""Read from the environment which cluster to join, with which token. Does not import Ray."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from lotus_ray.base.errors import ClusterError

CONNECT_SECONDS = 3
SOCKET_BYTES = 103 if sys.platform == "darwin" else 107  # the longest path of a socket
HERE = ("", "local")  # as a RAY_ADDRESS: a new Ray on this machine
ANOTHER_TOKEN = (
    "export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=FILE"
    "   (the cluster's token; a Ray that starts here has its token in ~/.ray/auth_token)"
)


def cluster_address(environment: Mapping[str, str] = os.environ) -> str:
    """Return the RAY_ADDRESS to join, or an empty text if Ray starts here."""
    address = environment.get("RAY_ADDRESS", "")
    return "" if address in HERE else address


def first_line(environment: Mapping[str, str] = os.environ) -> str:
    """Return the line that says which Ray a command waits for."""
    address = cluster_address(environment)
    return f"joining the cluster at RAY_ADDRESS={address}" if address else "starting Ray"


def wrong_address(environment: Mapping[str, str] = os.environ) -> ClusterError | None:
    """Return why the cluster at RAY_ADDRESS cannot be joined, if that shows within seconds.

    Ray itself tries for minutes, and its message does not name the cause.
    """
    address = cluster_address(environment)
    scheme, _, rest = address.rpartition("://")
    if scheme:  # the rest may hold a password
        host = rest.rpartition("@")[2].partition(":")[0]
        return ClusterError(
            f"RAY_ADDRESS={scheme}://… is not for this command, which runs inside the cluster",
            nearest="HOST:PORT of its GCS, or auto",
            next_command=f"ray job submit --address http://{host}:8265 -- lotus-ray doctor",
        )
    closed = "" if address in ("", "auto") else _closed(address)
    if closed:
        return ClusterError(
            f"nothing answers at RAY_ADDRESS={address}: {closed}",
            next_command="unset RAY_ADDRESS   (or ray up cluster.yaml)",
        )
    return None


def wrong_token(environment: Mapping[str, str] = os.environ) -> ClusterError | None:
    """Return why the token file cannot be read. Ray would end the process.

    Ray reads RAY_AUTH_TOKEN first. It reads no token to join a cluster with RAY_AUTH_MODE=disabled;
    a Ray that starts here demands a token even so.
    """
    file = environment.get("RAY_AUTH_TOKEN_PATH", "")
    mode = environment.get("RAY_AUTH_MODE", "").lower()
    if not file or environment.get("RAY_AUTH_TOKEN"):
        return None
    if mode == "disabled" and cluster_address(environment):
        return None
    try:
        why = "" if Path(file).read_bytes().strip() else "it is empty"
    except OSError as error:
        why = error.strerror or str(error)
    if not why:
        return None
    return ClusterError(
        f"the token file cannot be read: {why}",
        where=f"RAY_AUTH_TOKEN_PATH={file}",
        next_command=ANOTHER_TOKEN
        if cluster_address(environment)
        else "unset RAY_AUTH_TOKEN_PATH   (Ray then makes its own token)",
    )


def wrong_folder(environment: Mapping[str, str] = os.environ) -> ClusterError | None:
    """Return why a Ray that starts here cannot write its sockets or its token."""
    if cluster_address(environment):
        return None
    return _long_temporary_folder(environment) or _unwritable_home(environment)


def _long_temporary_folder(environment: Mapping[str, str]) -> ClusterError | None:
    name = next((each for each in ("RAY_TMPDIR", "TMPDIR") if each in environment), None)
    if name is None:
        return None
    moment = "2000-01-01_00-00-00_000000"
    socket_file = f"/ray/session_{moment}_{os.getpid()}/sockets/plasma_store"
    room = SOCKET_BYTES - len(socket_file)
    length = len(os.fsencode(environment[name]))
    if length <= room:
        return None
    return ClusterError(
        f"the path of the temporary folder is too long for Ray's sockets: {length} bytes, "
        f"and at most {room} fit",
        where=f"{name}={environment[name]}",
        next_command=f"export {name}=/tmp",
    )


def _unwritable_home(environment: Mapping[str, str]) -> ClusterError | None:
    if environment.get("RAY_AUTH_TOKEN") or environment.get("RAY_AUTH_TOKEN_PATH"):
        return None
    home = Path(environment.get("HOME") or Path.home())
    token = home / ".ray" / "auth_token"
    if os.access(token, os.R_OK):
        return None
    try:
        token.parent.mkdir(parents=True, exist_ok=True)  # as Ray does
        why = "" if os.access(token.parent, os.W_OK | os.X_OK) else "Permission denied"
    except OSError as error:
        why = error.strerror or str(error)
    if not why:
        return None
    return ClusterError(
        f"Ray cannot keep its token in the home folder: {why}",
        where=str(token.parent),
        next_command="export HOME=FOLDER   (one that you can write to)",
    )


def wrong_environment(environment: Mapping[str, str] = os.environ) -> ClusterError | None:
    """Return what keeps Ray from starting here, or from joining the cluster at RAY_ADDRESS."""
    return wrong_address(environment) or wrong_token(environment) or wrong_folder(environment)


def check_environment() -> None:
    """Raise ClusterError if Ray can neither start here nor join a cluster."""
    if wrong := wrong_environment():
        raise wrong


def _closed(address: str) -> str:
    """Return why no connection can be made to host:port, or an empty text."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS):
            return ""
    except (ValueError, OverflowError):
        return "it is not host:port"
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
