"""The files that tell other commands how far a grid is."""

from __future__ import annotations

OUTCOME = "outcome.json"
HEARTBEAT = "heartbeat.json"
HEARTBEAT_SECONDS = 30
SILENT_SECONDS = 4 * HEARTBEAT_SECONDS  # from then on a command that says it runs is believed dead
