"""The strip of forgotten images, the files that a page holds, and where the images come from."""

from __future__ import annotations

import base64
import csv
import io
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lotus_ray.data.prepared.find_images import find_images
from lotus_ray.data.prepared.manifest import Manifest
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import HELDOUT, TRAIN
from lotus_ray.metrics.outputs import Outputs
from lotus_ray.report.collect import collect
from lotus_ray.report.formats import to_csv, to_latex
from lotus_ray.report.page import download_files, to_page
from lotus_ray.report.page.strip import MOST, Pictures
from lotus_ray.store.origin import ORIGIN, Origin
from lotus_ray.store.results import Store
from tests.report.made_up import commit, group_of
from tests.report.pages import Page, check_is_alone
from tests.toy import Sample, source

FORGOTTEN = 20


def png(side: int, shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("L", (side, side), shade).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    samples = [Sample(str(n), TRAIN, png(8, n), f"{n}.png", n % 2) for n in range(FORGOTTEN)]
    samples[0] = Sample("0", TRAIN, png(200, 0), "0.png", 0)
    heldout = [Sample(f"h{n}", HELDOUT, png(8, 100 + n), f"h{n}.png", n) for n in range(2)]
    return prepare(source([*samples, *heldout]), tmp_path / "images")


def answers(wrong: tuple[int, ...] = ()) -> dict[str, bytes]:
    """Return outputs of forgotten images of classes 0, 1, 0, …; some have the other answer."""
    labels = np.arange(FORGOTTEN) % 2
    zeros = np.zeros(FORGOTTEN)
    return Outputs(
        roles=np.array(["forget"] * FORGOTTEN),
        labels=labels,
        predicted=np.where(np.isin(np.arange(FORGOTTEN), wrong), 1 - labels, labels),
        entropy=zeros,
        loss=zeros,
        margin=zeros,
        confidence=np.full(FORGOTTEN, 0.75),
        forget_probs=np.full((FORGOTTEN, 2), 0.5),
        class_sums={"forget": np.zeros((2, 2))},
    ).to_files([str(n) for n in range(FORGOTTEN)])


@pytest.fixture
def grid(store: Store, manifest: Manifest) -> Store:
    """A store whose gold standard answers images 3 and 5 otherwise than the original."""
    named = {"benchmark": manifest.digest}
    commit(store, "original", files=answers(), **named)
    commit(store, "gold", files=answers((3, 5)), **named)
    commit(store, "lotus", files=answers((3,)), **named)
    Origin(("faces",), (str(manifest.directory),)).add_to(store)
    return store


def test_images_are_found_by_id_and_changed_ones_are_left_out(manifest: Manifest) -> None:
    found = find_images(manifest, ["3", "h1", "none"])
    assert found == {"3": png(8, 3), "h1": png(8, 101)}
    shard = Path(manifest.paths[0])
    content = shard.read_bytes()
    at = content.index(png(8, 3)) + len(png(8, 3)) - 1
    shard.write_bytes(content[:at] + b"\x00" + content[at + 1 :])
    assert set(find_images(manifest, ["3", "4"])) == {"4"}


def test_the_strip_shows_what_gold_answers_otherwise_first(grid: Store) -> None:
    strip = Pictures(grid).of(group_of(grid))
    assert len(strip.pictures) == MOST
    assert strip.caption == (
        "Of 20 forgotten images, the gold standard answers 2 otherwise than the original does. "
        "Shown: 2 of these, and 10 others drawn by chance. Red: not the label. Seed 1."
    )
    wrong = [[not answer.is_right for answer in picture.answers] for picture in strip.pictures]
    assert sorted(wrong[:2]) == [[False, False, True], [False, True, True]]
    assert not any(any(each) for each in wrong[2:])
    first = strip.pictures[0]
    assert [answer.who for answer in first.answers] == ["Original", "LoTUS", "Gold Std"]
    assert first.answers[0].text == f"{first.label} 75%"
    assert Pictures(grid).of(group_of(grid)) == strip


def test_thumbnails_are_small_and_hold_no_more_than_pixels(grid: Store) -> None:
    strips = Pictures(grid).of(group_of(grid)).pictures
    for picture in strips:
        head, _, content = picture.source.partition(",")
        with Image.open(io.BytesIO(base64.b64decode(content))) as image:
            assert head == (
                "data:image/png;base64" if picture.is_tiny else "data:image/jpeg;base64"
            )
            assert max(image.size) == (8 if picture.is_tiny else 64)
            assert not image.getexif()


def test_a_page_shows_images_unless_told_not_to(grid: Store) -> None:
    entries = collect(grid)
    html = to_page(entries, grid)
    check_is_alone(html)
    assert Page(html).tags["img"] == MOST
    assert "<h1>faces</h1>" in html
    without = to_page(entries, grid, images=False)
    assert Page(without).tags["img"] == 0
    assert 'class="strip"' not in without
    assert "not shown" not in without


def test_a_store_that_does_not_say_where_images_are_shows_none(grid: Store) -> None:
    """As one that `forget` made, or an older version."""
    (Path(grid.location) / ORIGIN).unlink()
    html = to_page(collect(grid), grid)
    assert Page(html).tags["img"] == 0
    assert "Forgotten images are not shown: the store does not say where they are." in html


@pytest.mark.parametrize("setting", ["ids_request", "user_id_7_12", "a_name_of_the_job"])
def test_images_that_somebody_may_have_named_are_not_shown(grid: Store, setting: str) -> None:
    strip = Pictures(grid).of(replace(group_of(grid), setting=setting))
    assert strip.pictures == []
    assert strip.caption == "Forgotten images are not shown: somebody may have asked for them."


def test_images_that_are_gone_leave_a_note(grid: Store, manifest: Manifest) -> None:
    for path in manifest.directory.glob("*.arrow"):
        path.unlink()
    strip = Pictures(grid).of(group_of(grid))
    assert strip.pictures == []
    assert strip.caption.startswith("Forgotten images are not shown: the index of the data set")


def test_the_origin_keeps_jobs_and_folders(store: Store) -> None:
    assert Origin.read(store) == Origin()
    Origin(("a",), ("/one",)).add_to(store)
    assert Origin.read(store).job == "a"
    Origin(("b",), ("/two", "/one")).add_to(store)
    assert Origin.read(store) == Origin(("a", "b"), ("/one", "/two"))
    assert Origin.read(store).job == ""
    store.replace(ORIGIN, b'{"job": "old", "folders": []}')
    assert Origin.read(store).job == "old"
    store.replace(ORIGIN, b"[torn")
    assert Origin.read(store) == Origin()


def test_a_page_holds_its_rows_as_csv_and_its_tables_as_latex(
    full: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = collect(full)
    html = to_page(entries, full)
    links = dict(re.findall(r'<a href="data:text/([a-z-]+);charset=utf-8,([^"]*)"', html))
    assert {"csv": to_csv(entries), "x-tex": to_latex(entries)} == {
        kind: unquote(Page(f"<p>{text}</p>").texts[0]) for kind, text in links.items()
    }
    assert len(list(csv.reader(io.StringIO(to_csv(entries))))) > 20
    assert 'download="store.csv"' in html
    monkeypatch.setattr(download_files, "MOST_BYTES", 100)
    assert "download=" not in to_page(entries, full)


def test_the_images_of_each_role_are_counted_once_and_kept(store: Store) -> None:
    """Of two seeds the fewer; a table that is missing or torn counts nothing."""
    for seed, forgotten in ((1, 3), (2, 2)):
        out = io.BytesIO()
        roles = ["forget"] * forgotten + ["retain"] * 5 + ["rest"]
        pq.write_table(pa.table({"role": roles}), out)
        store.put(f"roles/roles of {seed}.parquet", out.getvalue())
        commit(store, "lotus", seed)
    expected = {"forget": 2, "retain": 5, "unseen": 0, "test": 0}
    assert group_of(store).samples == expected
    for seed in (1, 2):
        (Path(store.location) / f"roles/roles of {seed}.parquet").write_bytes(b"torn")
    assert group_of(store).samples == expected
    commit(store, "lotus", 3)
    store.put("roles/roles of 3.parquet", b"torn")
    assert group_of(store).samples == expected
