"""Checksums that servers give as the ETag of an object."""

from __future__ import annotations

import hashlib


def md5_etag(content: bytes, part_bytes: int) -> str:
    """Return the ETag of an object whose server computes it from the bytes that it received.

    Args:
        content: of the object.
        part_bytes: size of the parts in which a larger object is sent.

    Returns:
        The MD5 of the content in hexadecimal digits; of an object in n parts, the MD5 of the MD5s
        of its parts, then "-n". Here MD5 finds damage. It is no protection against forgery.

    Source: S3's and Google's references of object ETags. Deviation: none. Where a server encrypts
    with a key of the user, or Google joins parts, the ETag is something else.
    """
    if len(content) <= part_bytes:
        return hashlib.md5(content, usedforsecurity=False).hexdigest()
    view = memoryview(content)
    parts = [
        hashlib.md5(view[start : start + part_bytes], usedforsecurity=False).digest()
        for start in range(0, len(content), part_bytes)
    ]
    return f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"
