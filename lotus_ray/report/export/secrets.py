"""Remove passwords, keys and tokens from text that leaves the store."""

from __future__ import annotations

import re

_HIDDEN = "***"
_NAMES = (  # not: max_tokens, tokenizer, sigma
    r"(?:password|passwd|passphrase|pwd|secret|token(?![a-z])|(?<![a-z0-9])sig(?![a-z0-9])|signature"
    r"|credential|authorization|api[_-]?key|account[_-]?key|private[_-]?key"
    r"|access[_-]?key(?:[_-]?id)?)"
)
_NAMED = re.compile(_NAMES, re.IGNORECASE)
# A password may contain @ or a slash: hide everything up to the last @ of an address.
_IN_ADDRESS = re.compile(r"([a-z][\w+.-]*://)[^\s'\"<>]*@", re.IGNORECASE)
_ASSIGNED = re.compile(
    rf"({_NAMES}[\w-]*[\"']?\s*[=:]\s*[\"']?)(?:(?:bearer|basic)\s+)?(?!(?:true|false|null)\b)[^\s&\"',;]+",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b(bearer\s+)[\w.+/=~-]{8,}", re.IGNORECASE)
_ALONE = re.compile(  # secrets with a form of their own: AWS key ids, Hugging Face tokens, PEM
    r"(?<![A-Za-z0-9])(?:(?:AKIA|ASIA)[A-Z0-9]{16}|hf_[A-Za-z0-9]{20,})(?![A-Za-z0-9])"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)


def redact(text: str) -> str:
    """Return a text without secrets, and without characters that trackers cannot store."""
    text = _ALONE.sub(_HIDDEN, text)
    text = _IN_ADDRESS.sub(rf"\g<1>{_HIDDEN}@", text)
    for pattern in (_ASSIGNED, _BEARER):
        text = pattern.sub(rf"\g<1>{_HIDDEN}", text)
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)


def redact_value(name: str, value: object) -> object:
    """Return the value of a setting without secrets. If its name says secret, hide all of it."""
    if not isinstance(value, str):
        return value
    return _HIDDEN if _NAMED.search(name) else redact(value)
