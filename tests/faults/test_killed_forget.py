"""`lotus-ray forget`, killed and interrupted at several moments: the same command goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lotus_ray.audit.folder import PAGE, RECORD, WEIGHTS, read_record
from lotus_ray.audit.verify import check_files
from tests.grid.test_forget import QUICK, ids, photos, some

__all__ = ["photos"]
pytestmark = pytest.mark.faults

MOMENTS = (
    "copying the images",
    "images are taken at",
    "images to forget,",
    "a new commitment key",
    "Original, images resnet18_cifar seed 0: running",
    "Finetuning, images resnet18_cifar seed 0: running",
    "2/2 cells",
)


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_command_goes_on_and_leaves_nothing_half_written(
    photos: Path, tmp_path: Path, kind: signal.Signals
) -> None:
    """Each command ends at a later moment than the one before; the last one ends by itself."""
    output = tmp_path / "out"
    command = [
        *(sys.executable, "-m", "lotus_ray", "forget", "--model", "resnet18_cifar"),
        *("--weights", str(photos / "model.pth"), "--train", str(photos / "train")),
        *("--heldout", str(photos / "val"), "--ids", str(_ids(photos, tmp_path))),
        *("--mean", "0.5", "--std", "0.5", *QUICK),
        *("--method", "finetune", "--output", str(output)),
    ]
    met = []
    for moment in MOMENTS:
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if moment in line:
                    process.send_signal(kind)
                    met.append(moment)
                    break
            said = process.stderr.read()
        if output.exists():  # it was done before the signal came
            break
        assert process.returncode in (-kind, 130, 75), said
        assert "Traceback" not in said
    assert len(met) >= 4
    last = subprocess.run(command, capture_output=True, text=True, check=False)
    assert last.returncode == 0, last.stderr
    record = read_record(output)
    assert [each.error for each in check_files(record) if each.error] == []
    assert sorted(each.name for each in output.iterdir()) == [PAGE, RECORD, WEIGHTS]
    left = sorted(each.name for each in tmp_path.iterdir())
    assert left == ["ids.csv", "out", "out.key", "out.work"]


def _ids(photos: Path, tmp_path: Path) -> Path:
    return ids(tmp_path / "ids.csv", *some(photos, 0, 12))
