"""What README and the documentation say is so: commands, versions, the table, blocks that run."""

from __future__ import annotations

import importlib.util
import io
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from lotus_ray.cli.main import main
from lotus_ray.job.load import load_job

ROOT = Path(__file__).parent.parent
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
RUN_BY_TESTS = ("README.md", "docs/tutorials/")  # .ci/run and test_tutorials.py
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def commands_in(page: Path) -> list[str]:
    """Return the lotus-ray commands of a page: of its blocks, and between single backquotes."""
    text = page.read_text()
    blocks = [body for language, body in BLOCK.findall(text) if language in ("", "sh")]
    lines = [line for body in blocks for line in body.replace("\\\n", " ").splitlines()]
    inline = re.findall(r"`(lotus-ray [^`]+)`", BLOCK.sub("", text))
    found = [re.search(r"(?:^|-- |&& )(lotus-ray .*)", line.strip()) for line in lines]
    return [*(match[1] for match in found if match), *(" ".join(each.split()) for each in inline)]


def unknown(command: str) -> str:
    """Return what of a command does not exist: a sub-command or an option; empty if all does."""
    words = shlex.split(command.replace("…", ""), comments=True)
    words = words[1 : next((n for n, word in enumerate(words) if word in ("|", ">")), None)]
    group: click.Command = main
    context = click.Context(main, info_name="lotus-ray")
    while isinstance(group, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        if name.isupper() or name == "...":
            return ""  # stands for any command
        found = group.get_command(context, name)
        if found is None:
            return f"there is no command {name}"
        group, context = found, click.Context(found, parent=context)
    try:
        group.make_parser(context).parse_args(words)
    except click.UsageError as error:
        return "" if isinstance(error, click.MissingParameter) else error.format_message()
    return ""


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_exists_with_its_options(page: Path) -> None:
    wrong = {command: unknown(command) for command in commands_in(page)}
    assert {command: why for command, why in wrong.items() if why} == {}


def test_that_can_fail() -> None:
    assert "there is no command gird" in unknown("lotus-ray gird JOB.yaml")
    assert "--limt" in unknown("lotus-ray grid JOB.yaml --limt 3")
    assert "--key" in unknown("lotus-ray audit sign DIR --key")
    assert len(commands_in(ROOT / "docs/cluster.md")) > 3


def test_blocks_that_say_they_run_are_run() -> None:
    """The mark is `sh`. Elsewhere a block needs a cluster, a bucket or hours, and has none."""
    marked = {name_of(page) for page in PAGES if "\n```sh\n" in page.read_text()}
    assert len(marked) >= 4
    assert {name for name in marked if not name.startswith(RUN_BY_TESTS)} == set()


def test_one_version_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    (first, *_) = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert citation["version"] == project["version"]
    assert first in (project["version"], "Unreleased")
    assert citation["license"] == project["license"]


@pytest.fixture(scope="module")
def table() -> Any:
    """`.ci/table.py`, which CI holds beside the output of the README's command."""
    spec = importlib.util.spec_from_file_location("readme_table", ROOT / ".ci" / "table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_readme_has_the_rows_of_its_job(table: Any) -> None:
    shown = table.BLOCK.search((ROOT / "README.md").read_text())[0]
    _, columns, rows = table.parts(shown)
    (entries,) = load_job(Path("digits")).entries
    assert list(rows) == [entry.method.title for entry in entries]
    assert {len(cells) for cells in rows.values()} == {len(columns)}
    assert {*table.BANDS, *table.DIVERGENCES} <= set(columns)


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("RF-JSD", "RFJSD ", "columns: "),
        ("Finetuning", "Finetunong", "methods: "),
        ("instance_10pct", "instance_50pct", "title: "),
        ("0.900", "0.700", "LoTUS, Forget: "),
        ("4.1e-03", "9.9e-01", ""),  # a figure that is not compared
        ("4.00e-03", "9.00e-03", ""),  # within its band
        ("4.00e-03", "4.00e-02", "LoTUS, RF-JSD: "),
    ],
)
def test_a_table_that_is_another_is_noticed(
    before: str, after: str, fault: str, table: Any
) -> None:
    shown = (
        "digits, ResNet18, instance_10pct\n"
        "Method        RF-JSD  Forget  Distance\n"
        "--------------------------------------\n"
        "Finetuning  4.00e-03   0.950   4.1e-03\n"
        "LoTUS [=]   4.00e-03   0.900   4.1e-03\n"
        "one seed: no method is marked as best\n"
    )
    now = shown.replace(before, after)
    assert table.faults(shown, shown) == []
    found = table.faults(shown, now)
    assert len(found) >= bool(fault)
    assert all(fault and each.startswith((fault, "Finetuning, RF-JSD")) for each in found)
    smoke = now.replace("_10pct", "_10pct_smoke64")
    kinds = ("columns: ", "methods: ")
    assert bool(table.faults(shown, smoke)) == fault.startswith((*kinds, "title: "))


def test_the_table_of_an_output_is_put_into_readme(
    table: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "README.md"
    readme = (ROOT / "README.md").read_text()
    file.write_text(readme)
    now = "digits, ResNet18, instance_20pct\nMethod  Forget\n-----\nLoTUS    0.500\none seed\n"
    monkeypatch.setattr(table, "README", file)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"a note\n{now}\nanother table\n"))
    monkeypatch.setattr("sys.argv", ["table.py", "--write"])
    table.main()
    before, shown, after = readme.partition(table.BLOCK.search(readme)[0])
    assert shown
    assert file.read_text() == before + now + after
    monkeypatch.setattr("sys.argv", ["table.py"])
    monkeypatch.setattr("sys.stdin", io.StringIO(now.replace("Forget", "Retain")))
    with pytest.raises(SystemExit, match="--write"):
        table.main()
