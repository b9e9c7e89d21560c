from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lotus_ray.base.errors import DataError
from lotus_ray.data.roles.id_files import read_ids_by_key, read_sample_ids

IDS = ("a/1", "b/2", "a/1")


@pytest.mark.parametrize("name", ["ids.csv", "ids.parquet", "ids.txt"])
def test_ids_come_in_the_order_of_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("csv"):
        path.write_text("label,sample_id\n" + "".join(f"0,{i}\n" for i in IDS))
    elif name.endswith("parquet"):
        pq.write_table(pa.table({"sample_id": list(IDS)}), path)
    else:
        path.write_text("\n" + "\n".join(f"  {i} " for i in IDS) + "\n\n")
    assert read_sample_ids(path).ids == IDS


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("ids.csv", b"id\na\n", "no column sample_id"),
        ("ids.txt", b"\n \n", "no sample id"),
        ("ids.parquet", b"not Parquet", "cannot be read"),
        ("ids.txt", b"\xff\xfe\x00", "cannot be read"),
        ("ids.txt", None, "cannot be read"),
    ],
)
def test_a_wrong_file_is_one_clear_error(
    tmp_path: Path, name: str, content: bytes | None, what: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=what) as raised:
        read_sample_ids(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("name", ["ids.csv", "IDS.CSV", "ids.tsv"])
@pytest.mark.parametrize("separator", [";", "\t", ","])
def test_a_list_is_read_as_a_spreadsheet_saves_it(
    tmp_path: Path, name: str, separator: str
) -> None:
    """BOM, CRLF, spaces, separators at the end, an empty row, and the heading once more."""
    rows = [["Number", "Sample_ID"], ["1", " a/1 "], ["", ""], ["Number", "Sample_ID"], ["2", "07"]]
    text = "".join(separator.join([*row, "", ""]) + "\r\n" for row in rows)
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    read = read_sample_ids(path)
    assert read.ids == ("a/1", "07")
    assert read.lines == (f"{path}:2", f"{path}:5")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_list_of_lines_may_begin_with_a_bom(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "ids.txt"
    path.write_bytes("a/1\r\n\r\nb/2\r\n".encode(encoding))
    assert read_sample_ids(path).ids == ("a/1", "b/2")
    assert read_sample_ids(path).lines[1] == f"{path}:3"


def test_another_column_may_hold_the_ids(tmp_path: Path) -> None:
    path = tmp_path / "ids.csv"
    path.write_text("sep=;\nimage;user\na/1;3\n")
    assert read_sample_ids(path, "image").ids == ("a/1",)
    with pytest.raises(DataError, match="no column imag") as raised:
        read_sample_ids(path, "imag")
    assert raised.value.nearest == "image"


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_the_photographs_of_some_people_are_chosen(tmp_path: Path, form: str) -> None:
    """One image shows two of them, and is chosen once."""
    columns = {"sample_id": ["a", "b", "c", "a"], "user_id": ["07", "17", "9", "9"]}
    path = tmp_path / f"people.{form}"
    if form == "parquet":
        pq.write_table(pa.table(columns), path)
    else:
        rows = zip(*columns.values(), strict=True)
        path.write_text("\n".join([",".join(columns), *map(",".join, rows)]) + "\n")
    assert read_ids_by_key(path, "user_id", ["07", "9"]).ids == ("a", "c")
    with pytest.raises(DataError, match="no row has the user_id 7") as raised:
        read_ids_by_key(path, "user_id", ["7"])
    assert raised.value.nearest == "07"
