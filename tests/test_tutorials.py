"""The commands of the tutorials run, in order, on small inputs."""

from __future__ import annotations

import csv
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from sklearn.datasets import load_digits

from lotus_ray.base import plugins
from lotus_ray.cli.main import main

TUTORIALS = Path(__file__).parent.parent / "docs" / "tutorials"
BLOCK = re.compile(r'^```(\w+)(?: title="([^"\n]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
LESS = (
    *("epochs=1", "model.train.epochs=2", "model.train.warmup_epochs=1"),
    *("model.options={width: 2}", "grid.methods=[gold, {name: lotus, alpha: 8}]"),
)
PHOTOS = (
    *("dataset.img_size=16", "model.name=resnet18_cifar", "model.pretrained=false"),
    *("grid.seeds=[1]", "batch_size=16", "model.train.lr=0.1", "model.train.epochs=6"),
)
# Options that make the commands of a tutorial small. Its own come later, and win.
SMALL: dict[str, dict[str, tuple[str, ...]]] = {
    "first-grid": {"grid": ("--local", "--limit", "30"), "validate": ()},
    "my-method": {"grid": ("--local", "--limit", "30")},
    "photographs": {"grid": ("--local",), "validate": ()},
    "deletion-request": {"forget": ()},
}
SETTINGS = {
    **dict.fromkeys(("first-grid", "my-method"), LESS),
    **dict.fromkeys(("photographs", "deletion-request"), (*LESS, *PHOTOS)),
}
# What another test runs: it takes a minute, or two processes.
ELSEWHERE = {"lotus-ray check-method push --import push.py": "tests/bench/test_method_checks.py"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which one reader works through all tutorials; it has two classes of images."""
    path = tmp_path_factory.mktemp("reader")
    digits = load_digits()
    for name, digit in (("cat", 0), ("dog", 1)):
        for number, scan in enumerate(digits.images[digits.target == digit][:60], start=1):
            split = "train" if number <= 40 else "val"
            file = path / "photos" / split / name / f"{number:04d}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.uint8(scan * 15)).convert("RGB").resize((16, 16)).save(file)
    return path


def small(name: str, command: str) -> list[str]:
    """Return the words of a command, with options that make it small."""
    words = shlex.split(command)
    more = SMALL[name].get(words[1])
    if more is None:
        return words
    settings = [word for each in SETTINGS[name] for word in ("--set", each)]
    return [*words[:2], *more, *settings, *words[2:]]


def run_blocks(name: str) -> Iterator[tuple[str, str]]:
    """Write the files of a tutorial and run its commands, in the order of the page.

    Yields:
        Each command that was run, and what it printed.
    """
    for language, title, text in BLOCK.findall((TUTORIALS / f"{name}.md").read_text()):
        if title:
            Path(title).write_text(text)
        if language != "sh":
            continue
        for command in text.replace("\\\n", " ").splitlines():
            if command in ELSEWHERE:
                continue
            if not command.startswith("lotus-ray "):
                subprocess.run(shlex.split(command), check=True, capture_output=True, timeout=60)
                continue
            ended = CliRunner().invoke(main, small(name, command)[1:])
            assert ended.exit_code == 0, f"{command}\n{ended.output}\n{ended.exception!r}"
            yield command, ended.output


def shown(name: str, folder: Path, patch: pytest.MonkeyPatch) -> dict[str, str]:
    """Work through a tutorial; return what each of its commands printed."""
    patch.chdir(folder)
    try:
        return dict(run_blocks(name))
    finally:
        plugins.set_offers((), ())


def test_the_first_grid(folder: Path, no_page: None, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = shown("first-grid", folder, monkeypatch)
    dry_run = outputs["lotus-ray grid digits --dry-run"]
    assert len(re.findall(r"^\w{20}  missing", dry_run, re.MULTILINE)) == 3
    assert re.search(r"^LoTUS .*\d", outputs["lotus-ray grid digits"], re.MULTILINE)
    lines = csv.DictReader((folder / "digits.csv").read_text().splitlines())
    assert {line["method"] for line in lines} == {"Original", "Gold Std", "LoTUS"}
    assert "lotus-ray grid sevens.yaml" in outputs


def test_my_method(folder: Path, no_page: None, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = shown("my-method", folder, monkeypatch)
    assert len(outputs) == 2
    assert all(re.search(r"^Push.* +\d", output, re.MULTILINE) for output in outputs.values())


def test_my_photographs_and_a_deletion_request(
    folder: Path, no_page: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second goes on from the first."""
    outputs = shown("photographs", folder, monkeypatch)
    assert re.search(r"^LoTUS .*\d", outputs["lotus-ray grid photos.yaml"], re.MULTILINE)
    outputs = shown("deletion-request", folder, monkeypatch)
    (whole,) = (text for command, text in outputs.items() if "commitment-key" in command)
    assert "2 asked, 2 forgotten" in whole
    assert (folder / "request-2" / "chain").is_dir()
