"""A grid in a process of its own in which something goes wrong at a named point.

Points are found by what the process asks of the system, not by our own functions: the n-th time
that it flushes (`fsync`) a file whose path matches, or gives one that name (`link`, `replace`).
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tests.forkserver import FORKSERVER

JOB = Path(__file__).parent.parent.parent / "jobs" / "digits.yaml"
CELLS = ("Original", "Gold Std", "LoTUS", "Finetuning")  # in their order: the longest first
METHODS = ("--set", "grid.methods=[original, gold, finetune, {name: lotus, alpha: 8}]")
QUICK = (
    *("grid", str(JOB), "--local", "--set", "epochs=1", *METHODS),
    *("--set", "grid.models.0.train.epochs=2", "--set", "grid.models.0.train.warmup_epochs=1"),
)
SMALL = ("--limit", "20")


def die() -> NoReturn:
    """End this process as kill -9 does."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


@dataclass(frozen=True)
class Fault:
    """What goes wrong: at the `nth` matching call, `moment` it."""

    call: str  # "fsync", "link" or "replace"
    path: str  # a regular expression, of the file that is flushed or of the new name
    moment: str  # "torn" (half of the file is lost), "before" or "after"
    nth: int = 3
    fill: str | None = None  # a folder whose disk is filled instead of dying

    def strike(self) -> None:
        """Die, or fill the disk and let the process go on."""
        if self.fill is None:
            die()
        fill_disk(Path(self.fill))


def fill_disk(folder: Path) -> None:
    """Leave no byte free."""
    with (folder / "ballast").open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue


def _arm(fault: Fault) -> None:
    seen = 0
    honest: Callable[..., None] = getattr(os, fault.call)

    def call(first: Any, *rest: Any) -> None:
        nonlocal seen
        path = str(rest[0]) if rest else str(Path(f"/proc/self/fd/{first}").readlink())
        strikes = False
        if re.search(fault.path, path):
            seen += 1
            strikes = seen == fault.nth
        if strikes and fault.moment == "torn":
            os.ftruncate(first, os.fstat(first).st_size // 2)
        if strikes and fault.moment != "after":
            fault.strike()
        honest(first, *rest)
        if strikes and fault.moment == "after":
            fault.strike()

    setattr(os, fault.call, call)


def _run(arguments: tuple[str, ...], output: str, faults: tuple[Fault, ...], lie: bool) -> None:
    descriptor = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    for fault in faults:
        _arm(fault)
    from lotus_ray.report import page

    # Its figures take two seconds of each grid; what is looked at here are rows and files.
    page.to_page = lambda entries, store: "<html></html>"  # type: ignore[assignment]
    if lie:
        from lotus_ray.data.pixels.cache_space import CacheSpace

        CacheSpace.disk_left = lambda self: 1 << 30  # type: ignore[method-assign]
    from lotus_ray.cli.main import main

    main(list(arguments))


def start(
    store: Path,
    *options: str,
    faults: tuple[Fault, ...] = (),
    output: Path,
    disk_looks_free: bool = False,
) -> Any:
    """Start the quick grid in a process of its own.

    Args:
        store: where its rows go.
        options: further arguments of the command.
        faults: what goes wrong.
        output: the file that takes what it prints.
        disk_looks_free: let it believe that the scratch disk has a gigabyte of room.
    """
    arguments = (*QUICK, "--store", str(store), *options)
    process = FORKSERVER.Process(
        target=_run, args=(arguments, str(output), faults, disk_looks_free)
    )
    process.start()
    return process


def run(store: Path, *options: str, output: Path, **how: Any) -> int:
    """Run the quick grid to its end, however it ends; return its exit code, −9 where it died."""
    process = start(store, *options, output=output, **how)
    process.join(120)
    code: int | None = process.exitcode
    if code is None:
        process.kill()
        raise AssertionError(f"it hangs: {output.read_text()}")
    return code
