"""Everything that touches Ray. No other package imports it."""

import json
import os
from typing import Any

# Ray reads most of these when it is imported, in the driver and in every worker.
ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # a thread that outlives the session must not start Ray again
    "RAY_DATA_USE_DATASOURCE_V2": "0",  # its footer readers cost seconds on small data sets
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # the default of 2 s delays start and end
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the command; the store is always resumable
}
os.environ.update(ENVIRONMENT)

_SUBMITTED_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it in the command of a submitted job


def in_submitted_job() -> bool:
    """True if `ray job submit` runs this command."""
    return _SUBMITTED_JOB in os.environ


def in_uploaded_folder() -> bool:
    """True if this command runs in an uploaded folder, which Ray deletes with its job."""
    return bool(_runtime_environment().get("working_dir"))


def environment_of_workers() -> dict[str, str]:
    """Return the variables to set in workers. Ray refuses those that a submitted job sets too."""
    chosen = _runtime_environment().get("env_vars") or {}
    return {name: value for name, value in ENVIRONMENT.items() if name not in chosen}


def _runtime_environment() -> dict[str, Any]:
    """Return the runtime environment that `ray job submit` was given."""
    config: dict[str, Any] = json.loads(os.environ.get(_SUBMITTED_JOB, "{}"))
    return config.get("runtime_env") or {}
