"""Check this machine: versions, processors, memory, and space for decoded images."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from lotus_ray.cli.doctor.finding import OK, PROBLEM, WARNING, Finding

GIB = 1 << 30
SHARED_MEMORY = Path("/dev/shm")
NEEDED_BYTES = 256 << 20  # with less, worker processes cannot exchange messages
_PACKAGES = ("lotus-ray", "ray", "torch", "torchvision", "timm", "pyarrow")
# Packages that do not fit together fail when they are imported.
_LOADED = ("torch", "torchvision", "timm", "pyarrow", "ray")
Free = Callable[[Path], tuple[int, int]]  # a folder -> bytes in all, bytes free


def versions(
    load: Callable[[str], object] = importlib.import_module,
    declared: Callable[[], Iterable[str]] = lambda: requires("lotus-ray") or (),
) -> Finding:
    """Report the installed versions, and whether they meet the requirements and can be imported.

    Args:
        load: imports a package.
        declared: returns the requirements in the metadata of lotus-ray.
    """
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            if name != "lotus-ray":
                return _not_installed(name, "it is not installed")
    if wrong := _unmet(declared):
        names = "; ".join(f"{needed.name} {has}, needs {needed}" for needed, has in wrong)
        command = "pip install " + " ".join(f"'{needed}'" for needed, _ in wrong)
        return Finding("versions", PROBLEM, f"lotus-ray needs other versions: {names}", command)
    for name in _LOADED:
        try:
            load(name)
        except Exception as error:
            return _not_installed(name, str(error).splitlines()[0])
    cuda = _cuda()
    versions |= {"CUDA": cuda} if cuda else {}
    return Finding("versions", OK, ", ".join(f"{name} {text}" for name, text in versions.items()))


def _unmet(declared: Callable[[], Iterable[str]]) -> list[tuple[Requirement, str]]:
    """Return unmet requirements, each with the installed version; extras are not required."""
    try:
        needs = [Requirement(text) for text in declared()]
    except PackageNotFoundError:  # a checkout that is not installed declares nothing
        return []
    unmet = []
    for needed in needs:
        if needed.marker and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            has = version(needed.name)
        except PackageNotFoundError:
            has = "is not installed"
        else:
            if needed.specifier.contains(has, prereleases=True):  # as a build of torch may be
                continue
        unmet.append((needed, has))
    return unmet


def _not_installed(name: str, why: str) -> Finding:
    command = f"pip install --force-reinstall --no-deps {name}"
    if name.startswith("torch"):
        command = "pip install --force-reinstall torch torchvision"
    return Finding("versions", PROBLEM, f"{name} cannot be used: {why}", command)


def devices() -> Finding:
    """Report the CPUs, memory and GPUs that processes of this machine may use."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    total, available = memory()
    text = f"{cpus} CPUs, {total / GIB:.1f} GiB of memory ({available / GIB:.1f} available)"
    gpus = _gpus()
    if not gpus and any(Path("/dev").glob("nvidia[0-9]*")):
        return Finding(
            "devices",
            WARNING,
            f"{text}; torch cannot use the GPU that this machine has",
            "nvidia-smi; pip install --force-reinstall torch torchvision",
        )
    return Finding("devices", OK, f"{text}, {', '.join(gpus) or 'no GPU'}")


def memory(meminfo: Path = Path("/proc/meminfo")) -> tuple[int, int]:
    """Return bytes of memory, total and available; 0 if the system does not say."""
    try:
        pairs = [line.split(":") for line in meminfo.read_text().splitlines() if ":" in line]
    except OSError:
        return 0, 0
    sizes = {name: int(text.split()[0]) * 1024 for name, text in pairs if text.split()}
    return sizes.get("MemTotal", 0), sizes.get("MemAvailable", 0)


def free_bytes(folder: Path) -> tuple[int, int]:
    """Return how many bytes the disk of a folder has, and how many are free."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    return usage.total, usage.free


def free_of(left: int, total: int) -> str:
    """Return how much of a disk is free, as text, in MiB if it is less than 0.05 GiB.

    Args:
        left: free bytes.
        total: bytes of the disk.
    """
    free = f"{left / GIB:.1f}" if left >= 0.05 * GIB else f"{left / (1 << 20):.1f} MiB"
    return f"{free} of {total / GIB:.1f} GiB free"


def shared_memory(
    decoded_memory_gb: float, free: Free = free_bytes, folder: Path = SHARED_MEMORY
) -> Finding:
    """Report whether /dev/shm has space for Ray's objects and decoded images.

    Args:
        decoded_memory_gb: GiB of decoded images that a job keeps in memory.
        free: returns total and free bytes of a folder.
        folder: that is in memory.
    """
    name = "shared memory"
    if not folder.is_dir():
        return Finding(name, WARNING, f"there is no {folder}: decoded images go to the disk")
    total, left = free(folder)
    text = f"{free_of(left, total)} in {folder}"
    if left < NEEDED_BYTES:
        command = f"du -sh {folder}/* | sort -h   (in Docker: docker run --shm-size=8g)"
        return Finding(name, PROBLEM, f"it is full: {text}", command)
    if left < decoded_memory_gb * GIB:
        short = f"{text}, less than resources.decoded_memory_gb ({decoded_memory_gb:g}):"
        return Finding(name, WARNING, f"{short} more images go to the disk")
    return Finding(name, OK, text)


def scratch(folder: str | None, free: Free = free_bytes) -> Finding:
    """Report whether the local disk has space for decoded images that do not fit in memory.

    Args:
        folder: on the disk; default the folder for temporary files.
        free: returns total and free bytes of a folder.
    """
    path = Path(folder or tempfile.gettempdir()).expanduser().absolute()
    total, left = free(path)
    text = f"{free_of(left, total)} in {path}"
    again = "lotus-ray grid JOB.yaml --set resources.scratch=FOLDER"
    nearest = next(parent for parent in (path, *path.parents) if parent.exists())
    if not os.access(nearest, os.W_OK):
        return Finding("scratch", PROBLEM, f"it cannot be written: {path}", again)
    if left < GIB:
        return Finding("scratch", PROBLEM, f"the disk is full: {text}", again)
    return Finding("scratch", OK, text)


def _cuda() -> str | None:
    import torch

    return torch.version.cuda


def _gpus() -> list[str]:
    import torch

    if not torch.cuda.is_available():
        return []
    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [f"{gpu.name} with {gpu.total_memory / GIB:.1f} GiB" for gpu in gpus]
