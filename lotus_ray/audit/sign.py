"""Sign the record of a folder."""

from __future__ import annotations

from pathlib import Path

from lotus_ray.audit.envelope import to_bytes
from lotus_ray.audit.folder import read_record, remove_partial, replace_record
from lotus_ray.audit.keys import RecordSigner
from lotus_ray.audit.verify import check_files


def sign(folder: Path, signer: RecordSigner) -> str:
    """Add a signature to the record of a folder. One of the same key is replaced.

    Args:
        folder: of the answered request.
        signer: the private key.

    Returns:
        The id of the key: the SHA-256 of its public half.

    Raises:
        RecordError: the folder is damaged, and is not signed; or it cannot be written.
    """
    record = read_record(folder)
    remove_partial(folder)
    for found in check_files(record):
        if found.error:
            raise found.error
    signature = record.envelope.sign(signer)
    replace_record(folder, to_bytes(record.envelope))
    return signature.keyid
