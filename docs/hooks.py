"""What mkdocs builds beside the files of docs/: pages made from the code, and files of the root.

`<!-- made: NAME -->` … `<!-- end -->` in a page gives way to what `MADE[NAME]` returns. README,
CHANGELOG and CONTRIBUTING are pages of the site. Each method has a sheet. Links to files of the
repository lead to copies, so that the site is whole without a network.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import posixpath
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from lotus_ray.cli.catalogue import CATALOGUE  # noqa: E402
from lotus_ray.cli.main import main  # noqa: E402
from lotus_ray.job.schema.job import Job  # noqa: E402
from lotus_ray.report.columns import METRICS  # noqa: E402
from lotus_ray.unlearning.method import Method  # noqa: E402
from lotus_ray.unlearning.methods import METHODS  # noqa: E402

PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
COPIES = "files"  # folder of the site for files of the repository
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
# The search of pages that are opened from a disk; the theme would load it from the network.
SHIM, OUR_SHIM = "https://unpkg.com/iframe-worker/shim", "assets/iframe-worker.js"
MARKER = re.compile(r"<!-- made: (\S+) -->.*?<!-- end -->", re.DOTALL)


# -- Tables ---------------------------------------------------------------------------------------


def cell(text: object) -> str:
    """Return a text for a cell of a table."""
    pieces = " ".join(str(text).split()).split("`")
    for index, piece in enumerate(pieces):
        piece = piece.replace("<", "&lt;").replace("|", "&#124;")
        pieces[index] = f"<code>{piece}</code>" if index % 2 else piece
    return "".join(pieces)


def table(heads: str, rows: Iterator[tuple[object, ...]]) -> str:
    """Return a Markdown table. `heads` are divided by |."""
    columns = heads.split("|")
    lines = [columns, ["---"] * len(columns), *([cell(each) for each in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


# -- Commands -------------------------------------------------------------------------------------


def commands() -> str:
    """Return a section for each command: its usage, what it does, its arguments and options."""
    return "\n".join(_sections(main, click.Context(main, info_name="lotus-ray")))


def _sections(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from _sections(command, inner)
            continue
        yield f"## {inner.command_path}\n"
        yield "```text\n" + " ".join((inner.command_path, *command.collect_usage_pieces(inner)))
        yield "```\n\n" + inspect.cleandoc(command.help or "") + "\n"
        records = [each.get_help_record(inner) for each in command.get_params(inner)]
        rows = [(f"`{record[0]}`", record[1]) for record in records if record]
        yield table("Option|Meaning", iter(rows))


# -- Keys of a job --------------------------------------------------------------------------------


def job_keys() -> str:
    """Return a table of keys for a job, and for each part of it."""
    schema = Job.model_json_schema()
    parts = {"Job": schema, **schema["$defs"]}
    return "\n".join(_part(name, part) for name, part in parts.items() if "properties" in part)


def _part(name: str, part: dict[str, Any]) -> str:
    must = part.get("required", ())
    rows = (
        (
            f"`{key}`",
            _kind(value),
            "**needed**" if key in must else _default(value.get("default")),
            value.get("description", ""),
        )
        for key, value in part["properties"].items()
    )
    about = inspect.cleandoc(part.get("description", ""))
    return f"## {name}\n\n{about}\n\n" + table("Key|Value|Default|Meaning", rows)


def _default(value: object) -> str:
    plain = isinstance(value, (str, bool, int, float)) and value != ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`" if plain else ""


def _kind(value: dict[str, Any]) -> str:
    """Return in words which values a key takes."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return name if name == "JsonValue" else f"[{name}](#{name.lower()})"
    if "anyOf" in value:
        kinds = [_kind(each) for each in value["anyOf"] if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in value or "const" in value:
        return ", ".join(f"`{each}`" for each in value.get("enum", [value.get("const")]))
    if value.get("type") == "array":
        one, *_ = value.get("prefixItems", [value.get("items", {})])
        return f"list of {_kind(one)}"
    words = {"string": "text", "integer": "whole number", "boolean": "true, false"}
    limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {value[key]:g}" for key, sign in limits.items() if key in value]
    kind = str(value.get("type", "value"))
    return ", ".join([{"object": "mapping", **words}.get(kind, kind), *bounds])


# -- Methods --------------------------------------------------------------------------------------


def methods() -> str:
    """Return the table of all methods."""
    rows = (
        (f"[{m.label}]({name}.md)", f"`{name}`", _docstring(m)[0].partition("\n")[0])
        for name, m in METHODS.items()
    )
    return table("Method|In jobs|What it does", rows)


def sheet(method: type[Method], written: str = "") -> str:
    """Return the sheet of a method: what is written of it, else its docstring; and its settings."""
    about, arguments, rest = _docstring(method)
    fields = dataclasses.fields(method)
    rows = [(f"`{f.name}`", _default_of(f), arguments.get(f.name, "")) for f in fields]
    text = written or f"# {method.label}\n\n{about}\n\n{rest}\n"
    settings = table("Setting|Default|Meaning", iter(rows)) if rows else "It has none.\n"
    own = f"`{method.name}` in jobs, *{method.label}* in reports."
    return f"{text}\n## Settings in a job\n\n{own}\n\n{settings}"


def _default_of(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING:
        return ""
    return "" if field.default in (None, ()) else f"`{field.default}`"


def _docstring(method: type) -> tuple[str, dict[str, str], str]:
    """Return a docstring before its arguments, these by name, with base classes', and the rest."""
    arguments: dict[str, str] = {}
    for each in method.__mro__:
        arguments = _parts(each)[1] | arguments
    about, _, rest = _parts(method)
    return about, arguments, rest


def _parts(each: type) -> tuple[str, dict[str, str], str]:
    text = inspect.cleandoc(each.__dict__.get("__doc__") or "")
    about, _, after = text.partition("\nArgs:\n")
    listed, _, rest = after.partition("\n\n")
    found = re.findall(r"^    (\w[\w, ]*): ((?:.|\n(?!    \w[\w, ]*: ))*)", listed, re.MULTILINE)
    names = {name.strip(): text for key, text in found for name in key.split(",")}
    return about.strip(), names, rest.strip()


# -- Lists of names -------------------------------------------------------------------------------


def metrics() -> str:
    """Return the table of all metrics."""
    rows = ((f"`{name}`", m.heading, m.better, m.about) for name, m in METRICS.items())
    return table("In formats and gates|Heading|Best|Meaning", rows)


def names_of(kind: str) -> Callable[[], str]:
    """Return a function that makes the table of `lotus-ray list KIND`."""
    return lambda: table(
        "Name|What it is", ((f"`{i['name']}`", i["about"]) for i in CATALOGUE[kind]())
    )


MADE: dict[str, Callable[[], str]] = {
    "commands": commands,
    "job-keys": job_keys,
    "methods": methods,
    "metrics": metrics,
    "datasets": names_of("datasets"),
    "jobs": names_of("jobs"),
}


# -- What mkdocs calls ----------------------------------------------------------------------------


def on_config(config: Any) -> Any:
    """Add the sheets of the methods to the menu."""
    (section,) = (each["Methods"] for each in config.nav if "Methods" in each)
    if len(section) == 1:
        section += [{method.label: f"methods/{name}.md"} for name, method in METHODS.items()]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add pages of the root, sheets of methods, and copies of files that pages link to."""
    here = {file.src_uri for file in files}
    for name, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text("utf-8")))
    for name, method in METHODS.items():
        if f"methods/{name}.md" not in here:
            files.append(File.generated(config, f"methods/{name}.md", content=sheet(method)))
    linked = {each for path in _sources() for each in _repository_files(path)}
    for each in sorted(linked):
        uri = f"{COPIES}/{each}"
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / each)))
    return files


def on_post_page(html: str, page: Any, config: Any) -> str:
    """Load the search from the site."""
    up = os.path.relpath(OUR_SHIM, posixpath.dirname(page.file.dest_uri) or ".")
    return html.replace(SHIM, up)


def on_post_template(html: str, template_name: str, config: Any) -> str:
    """The same for the page of what is not found, whose addresses begin at the root."""
    return html.replace(SHIM, f"/{OUR_SHIM}")


def _sources() -> list[Path]:
    return [*(ROOT / name for name in PAGES), *(ROOT / "docs").rglob("*.md")]


def _repository_files(page: Path) -> Iterator[str]:
    for target, _ in LINK.findall(page.read_text("utf-8")):
        path = posixpath.normpath(posixpath.join(page.parent.relative_to(ROOT).as_posix(), target))
        if not path.startswith("docs/") and path not in PAGES and (ROOT / path).is_file():
            yield path


def on_page_markdown(text: str, page: Any, config: Any, files: Any) -> str:
    """Put in what is made, and turn links to files of the repository into links of the site."""
    uri = page.file.src_uri
    origin = next((name for name, each in PAGES.items() if each == uri), f"docs/{uri}")
    name = Path(uri).stem
    if origin.startswith("docs/methods/") and (ROOT / origin).exists() and name in METHODS:
        text = sheet(METHODS[name], text)
    text = MARKER.sub(lambda found: MADE[found[1]](), text)

    def there(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), found[1]))
        if path in PAGES:
            target = PAGES[path]
        elif path.startswith("docs/"):
            target = path.removeprefix("docs/")
            target += "/index.md" if (ROOT / path).is_dir() else ""
        elif (ROOT / path).is_file():
            target = f"{COPIES}/{path}"
        else:
            return found[0]
        return os.path.relpath(target, posixpath.dirname(uri) or ".") + (found[2] or "")

    return LINK.sub(there, text)
