"""LaTeX: what it says, and that pdflatex makes pages of it."""

from __future__ import annotations

import re
import shutil
import string
import subprocess
from pathlib import Path

import pytest

from lotus_ray.report.entries import Entry
from lotus_ray.report.formats import to_latex
from lotus_ray.report.formats.latex_signs import escaped
from tests.report.test_against import CIFAR10, IMAGENET
from tests.report.test_against import entry as paper_entry
from tests.report.test_formats import HOSTILE, hostile, rivals
from tests.report.test_statistics import entry, gold

PDFLATEX = shutil.which("pdflatex")
compiles = pytest.mark.skipif(PDFLATEX is None, reason="pdflatex is not installed")
DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs}
\begin{document}
\input{report.tex}
\end{document}
"""


def compiled(fragment: str, folder: Path) -> str:
    """Return the log of a document that inputs a report."""
    (folder / "report.tex").write_text(fragment)
    (folder / "main.tex").write_text(DOCUMENT)
    command = [PDFLATEX or "", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    for _ in range(2):
        result = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=120, errors="replace"
        )
        assert result.returncode == 0, result.stdout[-2000:]
    return (folder / "main.log").read_text(errors="replace")


def wide() -> list[Entry]:
    """A table in which every column is filled as widely as it gets."""
    names = ("forget_acc", "retain_acc", "unseen_acc", "test_acc", "mia_acc", "avg_gap")
    values = {name: [0.9, 0.85, 0.95] for name in names}
    values |= {"rf_jsd": [1e-3, 2e-3, 3e-3], "jsd": [1e-2, 2e-2, 4e-2]}
    values |= {"unlearn_seconds": [1234.5, 1250.0, 1300.0]}
    labels = ["Original", "Rnd Labeling", "Gold Std(training_seed=1)", *"ABCDEFGH"]
    return [entry(label, values) for label in labels]


def test_figures_by_hand() -> None:
    """0.01, 0.011, 0.012: 1.10 × 10⁻² with a spread of 0.10 in the same unit, the best bold."""
    text = to_latex(rivals())
    assert r"A & \textbf{1.10}$_{\pm 0.10}\times10^{-2}$ & - &" in text
    assert r"B & \underline{2.10}$_{\pm 0.10}\times10^{-2}$ & - &" in text
    assert r"C & 4.10$_{\pm 0.10}\times10^{-2}$ & - &" in text
    assert r"60.0$_{\pm 0.0}$" in text
    assert r"\textbf{bold}: best, \underline{underlined}: second best\par" in text
    one = to_latex([entry("A", {"rf_jsd": [0.011], "unlearn_seconds": [3.0]})])
    assert r"A & 1.10$\times10^{-2}$ & - & - & 3.0 \\" in one
    assert "underlined" not in one


def test_a_group_is_one_table_with_a_caption_and_a_label_of_its_own() -> None:
    first, second = entry("A", {"rf_jsd": [0.1]}), entry("A", {"rf_jsd": [0.1]})
    text = to_latex([first, Entry("B", "M", "S_2", "A", second.rows, second.values)])
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    assert r"\caption{B, M, S}" in text
    assert r"\caption{B, M, S\_2}" in text
    assert re.findall(r"\\label\{(.*?)\}", text) == ["tab:b-m-s", "tab:b-m-s-2"]
    alike = [Entry("B", "M", name, "A", first.rows, first.values) for name in ("S", "s", "ß", "§")]
    labels = re.findall(r"\\label\{(.*?)\}", to_latex(alike))
    assert labels == ["tab:b-m-s", "tab:b-m-s-2", "tab:b-m", "tab:b-m-2"]


def test_notes_stand_below_with_powers_of_ten() -> None:
    golds = [gold({"rf_jsd": [0.5]}), gold({"rf_jsd": [0.5 + 2**-9]}, seed=1)]
    text = to_latex([*golds, *rivals()])
    assert r"noise floor, between two gold standards: RF-JSD $1.95\times10^{-3}$\par" in text


def test_the_head_says_what_it_needs_and_how_it_is_used() -> None:
    head = to_latex([]).splitlines()
    assert all(line.startswith("%") for line in head)
    assert r"\usepackage{booktabs}" in head[0]
    assert r"\input{FILE}" in head[1]
    assert "The store holds no rows." in head[2]


def test_signs_by_hand() -> None:
    assert escaped("# $ % & _ { }") == r"\# \$ \% \& \_ \{ \}"
    assert escaped("~^\\") == r"\textasciitilde{}\textasciicircum{}\textbackslash{}"
    assert escaped("τ ± × ∞ Σ µ") == r"$\tau$ $\pm$ $\times$ $\infty$ $\Sigma$ $\mu$"
    assert escaped("a--b") == "a-{}-b"
    assert escaped("é, Å, ß") == r"\'{e}, \r{A}, {\ss}"
    assert escaped("中😀") == "U+4E2DU+1F600"
    assert escaped("[a]*") == "{[}a{]}{*}"
    assert escaped("Gold Std(training_seed=1)") == r"Gold Std(training\_seed=1)"
    assert escaped(HOSTILE).isascii()


def test_a_table_taller_than_a_page_is_continued() -> None:
    tall = [entry(f"M{place}", {"rf_jsd": [0.1]}) for place in range(30)]
    text = to_latex(tall)
    assert text.count(r"\begin{table}") == 2
    assert r"\addtocounter{table}{-1}" in text
    assert r"\caption{B, M, S, continued}" in text
    assert len(re.findall(r"\\label", text)) == 1


@compiles
def test_reports_fit_the_pages_of_an_article(tmp_path: Path) -> None:
    cifar = [
        paper_entry(CIFAR10, "LoTUS", name=f"LoTUS(alpha={alpha}, variant=gumbel)", alpha=alpha)
        for alpha in (2, 4, 8, 16)
    ]
    texts = [to_latex(wide()), to_latex([*cifar, paper_entry(IMAGENET, "SalUn")], "paper")]
    log = compiled("\n".join(texts), tmp_path)
    assert "Output written on main.pdf" in log
    assert "Overfull" not in log
    assert "Float too large" not in log
    assert "multiply defined" not in log


@compiles
def test_hostile_names_compile(tmp_path: Path) -> None:
    letters = [f"{c}{c}{c} [1] *" for c in string.punctuation]
    names = [HOSTILE, *letters, "αβγδεζηθικλμνξοπρστυφχψω", "éàüñçßøÅœ", "[5pt] a", "* b"]
    found = hostile()
    entries = [Entry("B", "M", "S", name, found.rows, found.values) for name in names]
    log = compiled(to_latex([hostile()]) + to_latex(entries), tmp_path)
    assert "Output written on main.pdf" in log
    assert "Missing character" not in log


@compiles
def test_the_test_of_compiling_can_fail(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="Undefined control sequence"):
        compiled(r"\nosuchcommand", tmp_path)
