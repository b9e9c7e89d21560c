from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lotus_ray.base.errors import DataError
from lotus_ray.data.roles.id_files import read_sample_ids

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
    assert read_sample_ids(path) == IDS


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
