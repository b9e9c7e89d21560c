"""A Hugging Face repository of images in Parquet: its splits, columns and classes.

The card (README.md) decides where it says something; else names of files and folders do, by the
words that the hub itself looks for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import yaml

from lotus_ray.base.errors import DataError, nearest
from lotus_ray.data.prepared.columns import columns_of_type
from lotus_ray.data.prepared.parquet import list_parquet, open_parquet, read_file

_WORDS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
_HELD_OUT = ("val", "valid", "validation", "dev", "test")  # the first that exists is held out
_NO_CONFIG = ("", "data", "default")
_MAX_CARD = 1 << 20  # bytes


@dataclass(frozen=True)
class Repository:
    """The files of a repository by split, its columns, and its classes where the card has them."""

    files: Mapping[str, Sequence[str]]
    image: str | None
    label: str | None
    classes: tuple[str, ...] | None


def read_repository(
    address: str,
    config: str | None,
    train: str | None,
    heldout: str | None,
    label: str | None = None,
) -> Repository:
    """Find the files, columns and classes of a repository.

    Args:
        address: of its folder, on a disk or hf://datasets/OWNER/NAME.
        config: name of a configuration; None takes the only one, or the one that is the default.
        train: name of the split to train on; None is train.
        heldout: name of the split to hold out; None is the first of validation and test.
        label: name of the column of labels; None is the only such column.

    Returns:
        Files by the splits `train` and `heldout`.

    Raises:
        DataError: a split or the configuration does not exist, or several could be meant.
    """
    folder = address.rstrip("/")
    card = _card(folder)
    files = [(uri, uri.removeprefix(f"{folder}/")) for uri in list_parquet(folder)]
    found, splits = _by_card(card, files, config, address)
    splits = splits or _by_name(files, config, address)
    chosen = {
        "train": _split(splits, ("train", "training") if train is None else (train,), address),
        "heldout": _split(splits, _HELD_OUT if heldout is None else (heldout,), address),
    }
    features = _features(card, config or found)
    with open_parquet(chosen["train"][0]) as file:
        image = _column("image", features, "image", columns_of_type(file, "Image"))
        stored = columns_of_type(file, "ClassLabel")
        label = label or _column("label", features, "class_label", stored)
    return Repository(chosen, image, label, _names(features.get(label or "label")))


def _card(folder: str) -> dict[str, Any]:
    """Return what the card says between its two lines of dashes; nothing if there is no card."""
    content = read_file(f"{folder}/README.md") or b""
    text = content[:_MAX_CARD].decode(errors="replace")
    found = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    try:
        values = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError as error:
        raise DataError(
            "the card is no YAML", where=f"{folder}/README.md", next_command="correct or remove it"
        ) from error
    return values if isinstance(values, dict) else {}


def _entries(card: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = card.get(key)
    return [each for each in (value if isinstance(value, list) else [value]) if each]


def _by_card(
    card: Mapping[str, Any], files: Sequence[tuple[str, str]], config: str | None, address: str
) -> tuple[str, dict[str, list[str]]]:
    """Return the configuration, and the files of each split, as the card lists them; else none."""
    configs = [each for each in _entries(card, "configs") if each.get("data_files")]
    if not configs:
        return "", {}
    names = [str(each.get("config_name", "default")) for each in configs]
    usual = [name for name, each in zip(names, configs, strict=True) if each.get("default")]
    name = _one_config(names, config, usual, address)
    splits: dict[str, list[str]] = {}
    for split, patterns in _data_files(configs[names.index(name)]["data_files"]):
        splits[split] = [uri for uri, path in files if any(_matches(path, p) for p in patterns)]
    return name, {split: found for split, found in splits.items() if found}


def _data_files(value: Any) -> Iterator[tuple[str, list[str]]]:
    """Yield split and patterns: of a pattern, a list of them, or entries with split and path."""
    for each in value if isinstance(value, list) else [value]:
        entry = each if isinstance(each, dict) else {"path": each}
        path = entry.get("path", [])
        yield str(entry.get("split", "train")), [path] if isinstance(path, str) else list(path)


def _matches(path: str, pattern: str) -> bool:
    pattern = pattern.removeprefix("./")
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern.rstrip('/')}/*")


def _by_name(
    files: Sequence[tuple[str, str]], config: str | None, address: str
) -> dict[str, list[str]]:
    """Return the files of each split by their names and folders."""
    configs: dict[str, dict[str, list[str]]] = {}
    for uri, path in files:
        *folders, name = path.split("/")
        for depth, part in enumerate([name, *reversed(folders)]):
            words = [word for word in re.split(r"[^a-z]+", part.lower()) if word in _WORDS]
            if words:
                above = folders[: len(folders) - depth] if depth else folders
                configs.setdefault("/".join(above), {}).setdefault(_WORDS[words[0]], []).append(uri)
                break
    if not configs:
        return {}
    usual = [name for name in configs if name in _NO_CONFIG]
    return configs[_one_config(list(configs), config, usual, address)]


def _one_config(
    names: Sequence[str], wanted: str | None, usual: Sequence[str], address: str
) -> str:
    """Return the configuration that is meant.

    Raises:
        DataError: there is no such one, or several and none is the default.
    """
    if wanted is not None and wanted not in names:
        raise DataError(
            f"there is no configuration '{wanted}'", where=address, nearest=nearest(wanted, names)
        )
    if wanted is None and len(names) > 1 and len(usual) != 1:
        raise DataError(
            f"there are {len(names)} configurations: {', '.join(sorted(names)[:10])}",
            where=address,
            next_command="add config: NAME to the data set",
        )
    return wanted or (names[0] if len(names) == 1 else usual[0])


def _split(splits: Mapping[str, list[str]], wanted: Sequence[str], address: str) -> list[str]:
    """Return the files of the first split that exists."""
    for name in wanted:
        if name in splits:
            return splits[name]
    raise DataError(
        f"there is no split {' or '.join(wanted)}",
        where=address,
        nearest=f"one of {', '.join(sorted(splits))}" if splits else "train-00000-of-00001.parquet",
        next_command="name the files in parquet: {train: [...], heldout: [...]}",
    )


def _features(card: Mapping[str, Any], config: str) -> dict[str, Any]:
    """Return the type of each column of a configuration in the card, by its name.

    Those of another configuration are not taken for it: its classes may have another order.
    """
    infos = _entries(card, "dataset_info")
    named = [each for each in infos if each.get("config_name", "default") == (config or "default")]
    features = (named or (infos if len(infos) == 1 else []) or [{}])[0].get("features", [])
    return {
        str(each["name"]): each.get("dtype")
        for each in features
        if isinstance(each, dict) and "name" in each
    }


def _column(
    usual: str, features: Mapping[str, Any], kind: str, stored: Sequence[str]
) -> str | None:
    """Return the only column of a kind, in the card or in a file; the usual name if it is one."""
    of_card = [
        name
        for name, dtype in features.items()
        if dtype == kind or (isinstance(dtype, dict) and kind in dtype)
    ]
    names = of_card or list(stored)
    return names[0] if len(names) == 1 and usual not in names else None


def _names(dtype: Any) -> tuple[str, ...] | None:
    """Return the names of classes of a column's type in a card, or None."""
    try:
        names = dtype["class_label"]["names"]
    except (TypeError, KeyError):
        return None
    if isinstance(names, dict):
        names = [names[key] for key in sorted(names, key=int)]
    return tuple(str(name) for name in names)
