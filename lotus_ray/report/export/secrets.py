"""Text that leaves the store: passwords, keys and tokens in it are not told."""

from __future__ import annotations

import re

_HIDDEN = "***"
_NAMES = (  # max_tokens and a tokenizer are no secrets, nor is a sigma
    r"(?:password|passwd|passphrase|pwd|secret|token(?![a-z])|(?<![a-z0-9])sig(?![a-z0-9])|signature"
    r"|credential|authorization|api[_-]?key|account[_-]?key|private[_-]?key"
    r"|access[_-]?key(?:[_-]?id)?)"
)
_NAMED = re.compile(_NAMES, re.IGNORECASE)
# A password may hold an @ or a slash: all up to the last @ of what looks like one address.
_IN_ADDRESS = re.compile(r"([a-z][\w+.-]*://)[^\s'\"<>]*@", re.IGNORECASE)
_ASSIGNED = re.compile(
    rf"({_NAMES}[\w-]*[\"']?\s*[=:]\s*[\"']?)(?:(?:bearer|basic)\s+)?(?!(?:true|false|null)\b)[^\s&\"',;]+",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b(bearer\s+)[\w.+/=~-]{8,}", re.IGNORECASE)
_ALONE = re.compile(  # known by their own form: ids of AWS keys, tokens of Hugging Face, PEM
    r"(?<![A-Za-z0-9])(?:(?:AKIA|ASIA)[A-Z0-9]{16}|hf_[A-Za-z0-9]{20,})(?![A-Za-z0-9])"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)


def told(text: str) -> str:
    """Return a text without its secrets and without characters that no tracker can keep."""
    text = _ALONE.sub(_HIDDEN, text)
    text = _IN_ADDRESS.sub(rf"\g<1>{_HIDDEN}@", text)
    for pattern in (_ASSIGNED, _BEARER):
        text = pattern.sub(rf"\g<1>{_HIDDEN}", text)
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)


def told_value(name: str, value: object) -> object:
    """Return the value of a setting; a text whose name says that it is a secret is not told."""
    if not isinstance(value, str):
        return value
    return _HIDDEN if _NAMED.search(name) else told(value)
