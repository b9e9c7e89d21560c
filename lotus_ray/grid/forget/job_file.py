"""A request without a job file: its options become a job in the work folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from lotus_ray import models
from lotus_ray.base.errors import JobError
from lotus_ray.data.prepared.manifest import MANIFEST
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import find
from lotus_ray.data.sources.class_folders import LeftOut, images_in
from lotus_ray.data.sources.image_folder import NAME as IMAGE_FOLDER
from lotus_ray.grid.forget.wish import Wish
from lotus_ray.job.yaml_document import Quoting

JOB = "job.yaml"
_SMALL = 96  # pixels: data sets of images that are all this small are not enlarged
_LOOKED_AT = 64  # images whose size is looked at


def write_job(wish: Wish, say: Callable[[str], None]) -> Path:
    """Write the job of a request without one, and return its path.

    Folders of images are copied to shards in the work folder first.

    Args:
        wish: the options.
        say: takes a line for people.

    Raises:
        JobError: an option is missing or wrong.
        DataError: the images cannot be read.
    """
    if not (wish.model and wish.weights and wish.train and wish.ids):
        missing = [
            f"--{name}" for name in ("model", "weights", "train", "ids") if not getattr(wish, name)
        ]
        raise JobError(
            f"without a job file, {', '.join(missing)} must be given too",
            where="lotus-ray forget",
            next_command="lotus-ray forget --model resnet18 --weights model.pth --train PHOTOS "
            "--heldout VAL --ids ids.csv --output DIR",
        )
    models.check_name(wish.model, "--model")
    if not wish.weights.is_file():
        raise JobError("there is no such weights file", where=f"--weights {wish.weights}")
    _check_apart(wish)
    data, size = _images(wish, say)
    if wish.classes and "parquet" not in data:
        raise JobError("these images name their classes themselves", where="--classes")
    transform = _transform(wish, size)
    say(
        f"images are taken at {transform['img_size']} pixels, mean {transform['mean']}, std "
        f"{transform['std']}; the model must have been trained so (--img-size, --mean, --std)"
    )
    job = {
        "grid": {
            "methods": [wish.method],
            "datasets": [{"name": "images", "forget": {"fraction": 0.1}, **data, **transform}],
            "models": [{"name": wish.model, "initial_checkpoint": str(wish.weights.absolute())}],
            "seeds": [0],
        },
        "batch_size": 64,
        "resources": {"gpus_per_worker": _gpus(), "cpus_per_worker": os.cpu_count() or 1},
        "store": str((wish.work / "store").absolute()),
    }
    wish.work.mkdir(parents=True, exist_ok=True)
    path = wish.work / JOB
    path.write_text(yaml.dump(job, Dumper=Quoting, sort_keys=False))
    return path


def _check_apart(wish: Wish) -> None:
    """Raise JobError if the output lies among the images: its copies would be images too."""
    output = wish.output.resolve()
    for name, folder in (("--train", wish.train), ("--heldout", wish.heldout)):
        if folder and "://" not in folder and output.is_relative_to(Path(folder).resolve()):
            raise JobError(
                f"the output lies in the folder of {name}: its files would be taken for images",
                where=f"--output {wish.output}",
                next_command="choose an --output elsewhere",
            )


def _gpus() -> int:
    import torch

    return int(torch.cuda.is_available())


def _images(wish: Wish, say: Callable[[str], None]) -> tuple[dict[str, Any], int | None]:
    """Return the origin of the images as a job says it, and their size if all have one."""
    train, heldout = wish.train or "", wish.heldout
    folder = Path(train)
    if (folder / MANIFEST).exists():
        if heldout is not None:
            raise JobError(
                "a prepared data set has its own held-out images, and others are not looked at",
                where=f"--heldout {heldout}",
                next_command="leave --heldout out",
            )
        return {"manifest": str(folder.absolute())}, None
    if _is_parquet(train):
        if heldout is None:
            raise JobError(
                "images that were never trained on are needed to compare with: --heldout",
                where=f"--train {train}",
            )
        files: dict[str, Any] = {"train": [_absolute(train)], "heldout": [_absolute(heldout)]}
        if wish.classes:
            files["classes"] = wish.classes.split(",")
        return {"parquet": files}, None
    if not folder.is_dir():
        raise JobError(
            "there are no such images",
            where=f"--train {train}",
            nearest="a folder with a folder for each class, Parquet files, or what "
            "`lotus-ray prepare` wrote",
        )
    return {"manifest": str(_prepared(wish, folder, heldout, say).absolute())}, _size(folder)


def _is_parquet(address: str) -> bool:
    path = Path(address)
    if "://" in address or address.endswith(".parquet") or "*" in address:
        return True
    return path.is_dir() and any(path.glob("*.parquet"))


def _absolute(address: str) -> str:
    return address if "://" in address else str(Path(address).absolute())


def _prepared(wish: Wish, train: Path, heldout: str | None, say: Callable[[str], None]) -> Path:
    """Copy folders of images to shards; return their folder. It is named after what it holds."""
    parts = {"train": train, "val": Path(heldout)} if heldout else {}
    if heldout is None:
        if not ((train / "train").is_dir() and (train / "val").is_dir()):
            raise JobError(
                "images that were never trained on are needed to compare with: --heldout",
                where=f"--train {train}",
                nearest="or a folder that holds train/<class>/ and val/<class>/",
            )
        parts = {"train": train / "train", "val": train / "val"}
    for name, folder in parts.items():
        if not folder.is_dir():
            raise JobError("there is no such folder", where=f"--{name} {folder}")
    digest = hashlib.sha256()
    for name, folder in parts.items():
        for path in sorted(images_in(folder, LeftOut())):
            stat = path.stat()
            entry = [name, str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns]
            digest.update(json.dumps(entry).encode())
    target = wish.work / f"images-{digest.hexdigest()[:12]}"
    if (target / MANIFEST).exists():  # named after its images, which are checked when decoded
        return target
    say(f"copying the images to shards: {target}")
    root = wish.work / f"folders-{digest.hexdigest()[:12]}"  # the same for a command that goes on
    root.mkdir(parents=True, exist_ok=True)
    for name, folder in parts.items():
        if not (root / name).exists():
            (root / name).symlink_to(folder.absolute(), target_is_directory=True)
    prepare(find(IMAGE_FOLDER), target, root)
    return target


def _size(folder: Path) -> int | None:
    """Return the side of the first images if it is one and small, else None."""
    sides = set()
    for path in sorted(images_in(folder, LeftOut()))[:_LOOKED_AT]:
        try:
            with Image.open(path) as image:
                sides.add(min(image.size))
        except OSError:
            return None
    return sides.pop() if len(sides) == 1 and max(sides) <= _SMALL else None


def _transform(wish: Wish, size: int | None) -> dict[str, Any]:
    """Return size and normalisation: as given, else those of the images and of timm's defaults."""
    from timm.data import resolve_data_config
    from timm.models import get_pretrained_cfg

    bare = (wish.model or "").rpartition("/")[2]
    config = get_pretrained_cfg(bare, allow_unregistered=False) if _is_timm(bare) else None
    known = config.to_dict() if config else {"input_size": (3, 224, 224)}
    default = resolve_data_config(pretrained_cfg=known)
    return {
        "img_size": size or default["input_size"][-1],
        "crop_pct": 1.0 if wish.img_size or size else default["crop_pct"],
        "mean": [round(x, 6) for x in default["mean"]],
        "std": [round(x, 6) for x in default["std"]],
        **transform_options(wish),
    }


def transform_options(wish: Wish) -> dict[str, Any]:
    """Return what the options say of size and normalisation, by the name that a job gives it."""
    given = {
        "img_size": wish.img_size,
        "mean": _numbers(wish.mean, "--mean"),
        "std": _numbers(wish.std, "--std"),
    }
    return {name: value for name, value in given.items() if value is not None}


def _is_timm(name: str) -> bool:
    import timm

    return bool(timm.is_model(name.partition(".")[0]))


def _numbers(text: str | None, option: str) -> list[float] | None:
    """Return three numbers from text such as .5,.5,.5. Raise JobError for anything else."""
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 3):
        raise JobError(f"'{text}' is not three numbers", where=option, nearest="0.5,0.5,0.5")
    return values * 3 if len(values) == 1 else values
