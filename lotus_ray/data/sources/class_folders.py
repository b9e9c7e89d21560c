"""Folders named after their class: which images they hold, and what in them is left out."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lotus_ray.base.errors import DataError

# torchvision's IMG_EXTENSIONS
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
NAMED = 3  # files that a note names


@dataclass
class LeftOut:
    """What was found beside the images. `notes` says it to people."""

    suffixes: Counter[str] = field(default_factory=Counter)
    dangling: list[Path] = field(default_factory=list)  # links to nothing
    loops: list[Path] = field(default_factory=list)  # links to a folder above them

    def notes(self, root: Path) -> Iterator[str]:
        """Yield a line for each kind of thing that was left out."""
        if self.suffixes:
            counts = ", ".join(f"{n} {suffix}" for suffix, n in sorted(self.suffixes.items()))
            files = "1 file" if self.suffixes.total() == 1 else f"{self.suffixes.total()} files"
            yield f"{files} left out: {counts}; images are {' '.join(SUFFIXES)}"
        for links, what in (
            (self.dangling, "to files that are not there"),
            (self.loops, "to a folder above them"),
        ):
            if links:
                named = ", ".join(each.relative_to(root).as_posix() for each in links[:NAMED])
                more = ", …" if len(links) > NAMED else ""
                yield f"{len(links)} links {what} left out: {named}{more}"


def is_image(name: str) -> bool:
    """Return True if a file is an image by the end of its name."""
    return name.lower().endswith(SUFFIXES)


def class_folders(folder: Path, left_out: LeftOut) -> dict[str, list[Path]]:
    """Return the images of each class, by the name of its folder, sorted.

    Names that differ only in how Unicode composes their letters, as a Mac and Linux write them,
    are one class.

    Args:
        folder: holds a folder for each class. Hidden ones are no classes.
        left_out: collects what is no image.

    Raises:
        DataError: an image lies outside the folders, a class has no image, or a name is no UTF-8.
    """
    folders: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        _check_name(path, folder)
        if path.is_dir():
            folders[unicodedata.normalize("NFC", path.name)].append(path)
        elif is_image(path.name):
            raise _wrong(f"{path.name} is outside the folder of a class", folder)
        else:
            _count(path, left_out)
    images = {
        name: sorted(image for path in folders[name] for image in images_in(path, left_out))
        for name in sorted(folders)
    }
    for name, found in images.items():
        if not found:
            raise _wrong(f"{name} holds no image ({' '.join(SUFFIXES)})", folder)
    if not images:
        raise _wrong("it holds no folder of a class", folder)
    return images


def images_in(folder: Path, left_out: LeftOut) -> Iterator[Path]:
    """Yield the images in a folder and below it. Links are followed, but not in circles.

    Args:
        folder: to look through, without hidden files and folders.
        left_out: collects what is no image.

    Raises:
        DataError: a name is no UTF-8.
    """
    for name, folders, files in os.walk(folder, followlinks=True):
        here = Path(name)
        shown = [here / each for each in sorted(folders) if not each.startswith(".")]
        loops = [path for path in shown if path.is_symlink() and _is_above(path, here)]
        left_out.loops += loops
        folders[:] = [path.name for path in shown if path not in loops]
        for file in sorted(files):
            path = here / file
            if file.startswith("."):
                continue
            if is_image(file) and path.is_file():
                _check_name(path, folder.parent)
                yield path
            else:
                _count(path, left_out)


def _is_above(link: Path, folder: Path) -> bool:
    return folder.resolve().is_relative_to(link.resolve())


def _count(path: Path, left_out: LeftOut) -> None:
    if path.is_symlink() and not path.exists():
        left_out.dangling.append(path)
    else:
        left_out.suffixes[path.suffix.lower() or "without a suffix"] += 1


def _check_name(path: Path, folder: Path) -> None:
    """Raise DataError if a name is no UTF-8: ids and Parquet hold text."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(path.relative_to(folder.parent)).decode("utf-8", "backslashreplace")
        raise DataError(
            f"the name of a file is no UTF-8: {shown}",
            where=str(folder).encode("utf-8", "backslashreplace").decode(),
            next_command="rename it; of many: convmv -r -f latin1 -t utf8 --notest FOLDER",
        ) from error


def _wrong(what: str, folder: Path) -> DataError:
    return DataError(
        what,
        where=str(folder),
        nearest="a folder for each class, with its images: cat/1.jpg, dog/2.jpg",
        next_command="lotus-ray list datasets",
    )
