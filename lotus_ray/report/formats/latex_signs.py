"""LaTeX code of characters that pdflatex prints in any font encoding."""

from __future__ import annotations

import re
import unicodedata

_ASCII = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    '"': "{''}",
    **{c: rf"\{c}" for c in "#$%&_{}"},
    **{c: f"${c}$" for c in "<>|"},
    **{c: f"{{{c}}}" for c in "[]*"},  # arguments of \\
}
_UNICODE = {
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": "$-$",
    "·": r"$\cdot$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "∞": r"$\infty$",
    "→": r"$\rightarrow$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "√": r"$\surd$",
    "°": r"$^{\circ}$",
    "–": "{--}",
    "—": "{---}",
    "…": r"\ldots{}",
    "‘": "{`}",
    "’": "{'}",
    "“": "{``}",
    "”": "{''}",
    "ß": r"{\ss}",
    "ø": r"{\o}",
    "Ø": r"{\O}",
    "æ": r"{\ae}",
    "œ": r"{\oe}",
    "ł": r"{\l}",
    "ı": r"{\i}",
}
_CAPITALS = ("Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Phi", "Psi", "Omega")
_GREEK = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"),
    *("lambda", "mu", "nu", "xi", "", "pi", "rho", "varsigma", "sigma", "tau", "upsilon", "phi"),
    *("chi", "psi", "omega"),  # without omicron
)
_UNICODE |= {chr(ord("α") + index): rf"$\{name}$" for index, name in enumerate(_GREEK) if name}
_UNICODE |= {c: rf"$\{name}$" for c, name in zip("ΓΔΘΛΞΠΣΦΨΩ", _CAPITALS, strict=True)}
_UNICODE["µ"] = r"$\mu$"  # the sign of micro
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}
_LIGATURE = re.compile(r"(?<!\{)([-,'])(?=\1)")  # but not {--} and the like, which are meant


def escaped(text: str) -> str:
    """Return LaTeX that prints `text`. Characters that pdflatex cannot print become U+4E2D."""
    written = "".join(_character(c) for c in unicodedata.normalize("NFC", text))
    return _LIGATURE.sub(r"\1{}", written)


def _character(c: str) -> str:
    if c.isascii():
        return _ASCII.get(c, c)
    if c in _UNICODE:
        return _UNICODE[c]
    parts = unicodedata.normalize("NFD", c)
    if len(parts) == 2 and parts[0].isascii() and parts[1] in _ACCENTS:
        return rf"\{_ACCENTS[parts[1]]}{{{parts[0]}}}"
    return rf"U+{ord(c):04X}"
