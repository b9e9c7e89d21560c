"""The command `lotus-ray`: its sub-commands, and the exit code of each error."""

from __future__ import annotations

import importlib
import traceback
from typing import Any

import click

from lotus_ray.base.errors import RUN_AGAIN, LotusRayError
from lotus_ray.base.version import VERSION
from lotus_ray.cli import signals

# Only the requested command is imported, so it does not wait for imports of others.
COMMANDS = (
    "audit",
    "bench",
    "check-method",
    "doctor",
    "evaluate",
    "export",
    "forget",
    "grid",
    "list",
    "prepare",
    "report",
    "spot-agent",
    "status",
    "validate",
)
MODULES = {  # files with another name
    "check-method": "check_method",
    "doctor": "doctor.command",
    "list": "list_names",
    "spot-agent": "spot_agent",
}

_GO_ON = "nothing that was finished is lost, and the same command goes on"


class Commands(click.Group):
    """Finds sub-commands by file. Turns each of our errors into its text and exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all sub-commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import a sub-command; return None if there is none of that name."""
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"lotus_ray.cli.{MODULES.get(name, name)}")
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a sub-command. A bug of ours keeps its traceback."""
        try:
            return super().invoke(ctx)
        except LotusRayError as error:
            if ctx.params.get("debug"):
                traceback.print_exc()
            click.echo(f"error: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt as interrupt:
            signals.leave_at_next_signal()
            if not _was_said(interrupt):
                click.echo(f"{signals.received_name()}: stopped; {_GO_ON}", err=True)
            from lotus_ray.cluster import in_submitted_job

            if in_submitted_job():
                signals.leave_at_once(RUN_AGAIN)
            ctx.exit(128 + signals.received())


def _was_said(interrupt: BaseException | None) -> bool:
    """Return True if a line was shown for this signal, or for one before it."""
    while interrupt is not None and not getattr(interrupt, "__notes__", None):
        interrupt = interrupt.__context__
    return interrupt is not None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Make image classifiers forget: a distributed benchmark of machine unlearning on Ray."""
