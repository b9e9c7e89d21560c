"""Keys that sign and verify records: Ed25519, or ECDSA on P-256, as PEM."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from securesystemslib.signer import CryptoSigner, Key, Signature, SSlibKey

from lotus_ray.base.errors import JobError

PRIVATE, PASSWORD, PUBLIC = (
    "LOTUS_RAY_SIGNING_KEY",
    "LOTUS_RAY_SIGNING_KEY_PASSWORD",
    "LOTUS_RAY_PUBLIC_KEY",
)
_MAKE = (
    "openssl genpkey -algorithm ed25519 -out key.pem; openssl pkey -in key.pem -pubout -out pub.pem"
)
# The order of P-256 (FIPS 186-5, SEC 2): (r, s) and (r, order − s) are both valid signatures.
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class RecordSigner(CryptoSigner):
    """Signs as `CryptoSigner` does, and gives each ECDSA signature its one form, with low s."""

    def sign(self, payload: bytes) -> Signature:
        """Return the signature of some bytes."""
        signature = super().sign(payload)
        if self.public_key.keytype == "ecdsa":
            r, s = decode_dss_signature(bytes.fromhex(signature.signature))
            signature.signature = encode_dss_signature(r, min(s, _ORDER - s)).hex()
        return signature


def is_one_form(signature: Signature, key: Key) -> bool:
    """Return False for the other valid form of an ECDSA signature, which nobody signed."""
    if key.keytype != "ecdsa":
        return True
    r, s = decode_dss_signature(bytes.fromhex(signature.signature))
    return s <= _ORDER // 2 and encode_dss_signature(r, s).hex() == signature.signature


def read_signer(path: Path | None) -> RecordSigner:
    """Read a private key from a PEM file, or from the variable LOTUS_RAY_SIGNING_KEY.

    Raises:
        JobError: there is no such key, its password is wrong, or it is of another kind.
    """
    content, where = _content(path, PRIVATE)
    password = os.environ.get(PASSWORD)
    try:
        private = serialization.load_pem_private_key(
            content, password.encode() if password else None
        )
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if b"PUBLIC KEY" in content:
            what = "this is a public key, and signing needs the private one"
        elif isinstance(error, TypeError) or b"ENCRYPTED" in content:
            what = f"the private key is encrypted: export {PASSWORD}=… with its right password"
        else:
            what = "this is no private key in PEM"
        raise JobError(what, where=where, next_command=_MAKE) from None
    _check_kind(private.public_key(), where)
    return RecordSigner(private, SSlibKey.from_crypto(private.public_key()))


def warning_about(path: Path | None) -> str:
    """Return a line if others than its owner can read the file of a private key, else nothing."""
    if path is None or not path.stat().st_mode & 0o077:
        return ""
    return f"others can read the private key, and sign as you do: chmod 600 {path}"


def read_public(paths: Iterable[Path]) -> list[Key]:
    """Read public keys from PEM files, or one from the variable LOTUS_RAY_PUBLIC_KEY.

    Raises:
        JobError: a file holds no public key of these kinds.
    """
    given = [_content(path, PUBLIC) for path in paths]
    if not given and os.environ.get(PUBLIC):
        given = [_content(None, PUBLIC)]
    keys: list[Key] = []
    for content, where in given:
        try:
            public = serialization.load_pem_public_key(content)
        except (ValueError, UnsupportedAlgorithm):
            is_private = b"PRIVATE KEY" in content
            raise JobError(
                "this is a private key: never hand it out; verifying needs the public one"
                if is_private
                else "this is no public key in PEM",
                where=where,
                next_command="openssl pkey -in key.pem -pubout -out pub.pem",
            ) from None
        _check_kind(public, where)
        keys.append(SSlibKey.from_crypto(public))
    return keys


def _check_kind(public: Any, where: str) -> None:
    """Raise JobError unless a key is Ed25519 or ECDSA on P-256."""
    is_p256 = isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name == "secp256r1"
    if not (isinstance(public, ed25519.Ed25519PublicKey) or is_p256):
        raise JobError(
            "records are signed by Ed25519 or by ECDSA on P-256, and this key is of another kind",
            where=where,
            next_command=_MAKE,
        )


def _content(path: Path | None, variable: str) -> tuple[bytes, str]:
    """Return the PEM text, and where it comes from."""
    if path is None:
        content = os.environ.get(variable, "").encode()
        if not content:
            raise JobError(
                "no key is given", where=f"--key FILE, or {variable}", next_command=_MAKE
            )
        return content, variable
    try:
        return path.read_bytes(), str(path)
    except OSError as error:
        what = f"the key cannot be read: {error.strerror}"
        raise JobError(what, where=str(path), next_command=_MAKE) from error
