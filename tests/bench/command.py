"""The benchmark as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def bench(*arguments: str) -> tuple[dict[str, Any], str]:
    """Run `lotus-ray bench … --repeats 1 --json`; return what it found, and its stderr."""
    code = "from lotus_ray.cli.main import main; main()"
    command = [sys.executable, "-c", code, "bench", *arguments, "--repeats", "1", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout), ended.stderr
