"""A connection to MLflow: bounded waiting, no calls home, errors without secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lotus_ray.base.errors import JobError, TrackerError
from lotus_ray.report.export.secrets import redact

_ALWAYS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # the URL may hold a password
}
_UNLESS_SET = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
_CONNECT_SECONDS = 10
_EXAMPLE = "lotus-ray export STORE --to mlflow --uri sqlite:///runs.db"


@contextmanager
def environment() -> Iterator[None]:
    """Stop MLflow from calling home and from waiting for minutes. Restore the environment after."""
    before = dict(os.environ)
    os.environ.update({**_UNLESS_SET, **before, **_ALWAYS})
    try:
        yield
    finally:
        for name in (*_ALWAYS, *_UNLESS_SET):
            _restore(name, before.get(name))


def connected(uri: str) -> Any:
    """Connect to a tracking URI; return MLflow's client.

    Raises:
        TrackerError: MLflow is not installed, or nothing answers.
        JobError: the URI is a path.
    """
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise TrackerError(
            f"MLflow cannot be imported: {error}",
            where="--to mlflow",
            nearest="--to tensorboard --output FOLDER",
            next_command="pip install 'lotus-ray[mlflow]'",
        ) from error
    scheme = urlsplit(uri).scheme
    if not scheme and uri != "databricks":
        raise JobError(
            "MLflow keeps runs in a database or on a server, not in a file or folder",
            where=f"--uri {redact(uri)}",
            nearest=f"sqlite:///{redact(uri)}",
            next_command=_EXAMPLE,
        )
    with explained("MLflow cannot be reached", uri):
        if scheme.split("+")[0] in ("sqlite", "postgresql", "mysql", "mssql"):
            _check_database(uri)
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    return client


@contextmanager
def explained(what: str, uri: str) -> Iterator[None]:
    """Turn errors of MLflow and its database into one TrackerError without secrets.

    Args:
        what: went wrong, for the error.
        uri: the tracking URI, for the error.

    Raises:
        TrackerError: the block raised such an error.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError, ImportError, ValueError, *_database_errors()) as error:
        raise TrackerError(
            f"{what}: {_reason(error)}",
            where=f"--uri {redact(uri)}",
            nearest="sqlite:///runs.db",
            next_command=f"curl {redact(uri)}/health" if uri.startswith("http") else _EXAMPLE,
        ) from None  # the original text may hold the password


def limited(text: str, most: int) -> str:
    """Return a text of at most `most` characters; a longer one is cut."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _restore(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _check_database(uri: str) -> None:
    """Connect once, because MLflow itself would try for two minutes before it fails."""
    import sqlalchemy

    url = sqlalchemy.make_url(uri)
    options: dict[str, Any] = {}
    if url.get_backend_name() in ("postgresql", "mysql"):
        options["connect_timeout"] = _CONNECT_SECONDS
    elif url.database and url.get_backend_name() == "sqlite":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sqlalchemy.create_engine(url, connect_args=options)
    try:
        sqlalchemy.inspect(engine).get_table_names()
    finally:
        engine.dispose()


def _database_errors() -> tuple[type[Exception], ...]:
    try:
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:  # MLflow's slim package supports only servers
        return ()
    return (SQLAlchemyError,)


def _reason(error: BaseException) -> str:
    lines: Iterable[str] = (line.strip() for line in str(error).splitlines())
    first = next((line for line in lines if line), type(error).__name__)
    caused = re.search(r"\(Caused by (.*)\)", first)
    return limited(redact(caused.group(1) if caused else first), 400)
