"""Hold the table of README.md beside the output of its command, or write it anew.

    lotus-ray grid digits | python .ci/table.py           # end with 1 where they disagree
    lotus-ray grid digits | python .ci/table.py --write   # put the output's table into README.md

Columns and methods have to be the same, in their order. Figures differ from one kind of CPU to
another, so each has to be within the band of its column. Those of a smoke test (`--limit`) are
not looked at: that is another experiment.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"(?<=^```\n)[^\n]+\nMethod .*?(?=^```$)", re.MULTILINE | re.DOTALL)
SMOKE = "_smoke"
FACTOR = 3.0  # of RF-JSD and JSD
# Columns and how far a figure may be from that of README; what is in neither is not compared.
BANDS = {"Avg Gap": 0.1, "Forget": 0.1, "Retain": 0.1, "Unseen": 0.1, "Test": 0.1, "MIA": 0.3}
DIVERGENCES = ("RF-JSD", "JSD")


def parts(text: str) -> tuple[str, list[str], dict[str, list[str]]]:
    """Return title, columns and the cells of each method of a table."""
    lines = text.splitlines()
    head = next(n for n, line in enumerate(lines) if line.startswith("Method "))
    rows: dict[str, list[str]] = {}
    for line in lines[head + 2 :]:
        cells = re.split(r"\s{2,}", line.strip())
        if len(cells) == 1:
            break
        rows[cells[0].removesuffix(" [=]")] = cells[1:]
    return lines[head - 1], re.split(r"\s{2,}", lines[head].strip())[1:], rows


def is_near(column: str, shown: str, now: str) -> bool:
    """Return True if a figure is within the band of its column."""
    if column not in (*BANDS, *DIVERGENCES) or "-" in (shown, now):
        return shown == now or column not in (*BANDS, *DIVERGENCES)
    one, other = (float(text.partition(" ")[0]) for text in (shown, now))
    if column in DIVERGENCES:
        return max(one, other) <= FACTOR * min(one, other)
    return abs(one - other) <= BANDS[column]


def faults(readme: str, output: str) -> list[str]:
    """Return what of README's table is not so in the output."""
    title, columns, rows = parts(readme)
    title_now, columns_now, rows_now = parts(output)
    found = []
    if columns != columns_now:
        found.append(f"columns: README has {columns}, the output {columns_now}")
    if list(rows) != list(rows_now):
        found.append(f"methods: README has {list(rows)}, the output {list(rows_now)}")
    if title != title_now.partition(SMOKE)[0]:
        found.append(f"title: README has {title!r}, the output {title_now!r}")
    if found or SMOKE in title_now:
        return found
    return [
        f"{method}, {column}: README has {shown}, the output {now}"
        for method, cells in rows.items()
        for column, shown, now in zip(columns, cells, rows_now[method], strict=True)
        if not is_near(column, shown, now)
    ]


def main() -> None:
    """Compare README.md with what comes in, or write it."""
    readme, output = README.read_text(encoding="utf-8"), sys.stdin.read()
    shown = BLOCK.search(readme)
    if shown is None or "\nMethod " not in output:
        sys.exit("no table in README.md, or none in the output")
    if "--write" in sys.argv:
        title = output.rfind("\n", 0, output.index("\nMethod ")) + 1
        table = output[title:].partition("\n\n")[0].rstrip() + "\n"
        README.write_text(readme.replace(shown[0], table), encoding="utf-8")
        return
    found = faults(shown[0], output)
    for each in found:
        print(f"README.md's table: {each}", file=sys.stderr)
    if found:
        sys.exit("next: lotus-ray grid digits | python .ci/table.py --write")


if __name__ == "__main__":
    main()
