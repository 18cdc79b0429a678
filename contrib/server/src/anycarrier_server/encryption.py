"""Secrets at rest (envelope encryption), and the signatures of webhooks that we send.

Each secret is encrypted with a key of its own (AES-256-GCM); that key is encrypted with the master key and kept
beside it with the master key's id. Changing the master key re-wraps the small keys and never touches the secrets.
Both layers bind the row and column they are for, so a blob copied into another row does not open.

    blob = 0x01 | key id (8) | nonce (12) | wrapped data key (48) | nonce (12) | ciphertext and tag

Webhooks that we send are signed with such a secret, in the two forms receivers expect:

* ``v1``: ``X-OneInbox-Signature: v1=<hex HMAC-SHA256(secret, timestamp.body)>``
* Inkbox: ``X-Inkbox-Signature: sha256=<hex HMAC-SHA256(key, request id.timestamp.body)>``, where the key is the key
  text without ``whsec_``, as it stands: it is not base64-decoded
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from anycarrier.errors import ConfigurationError

VERSION = b"\x01"
KEY_BYTES = 32
NONCE_BYTES = 12
WRAPPED_BYTES = KEY_BYTES + 16
HEADER = 1 + 8 + NONCE_BYTES + WRAPPED_BYTES + NONCE_BYTES


class MasterKeyWrong(ConfigurationError):
    """The master key in use is not the one the store was sealed with."""

    def __init__(self, key_id: str, have: Sequence[str]) -> None:
        self.key_id = key_id
        super().__init__(
            f"the stored secrets are sealed with master key {key_id}, and this is {', '.join(have)}. "
            "Give the right key in ANYCARRIER_MASTER_KEY or data_dir/master.key; without it the credentials are lost "
            "and have to be entered again"
        )


class SealBroken(ConfigurationError):
    """A sealed value was damaged, or belongs to another row."""

    def __init__(self, bound: str) -> None:
        super().__init__(f"the sealed value of {bound} does not open: it was damaged or moved. Enter the secret again")


class Sealer:
    """Seals and opens. One key seals, the first unless :meth:`seal_with` says otherwise; every key opens, which is what
    rotation needs."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ConfigurationError(f"a master key is {KEY_BYTES} bytes in base64; `anycarrier rotate-key` makes one")
        self._keys = {_id(key): AESGCM(key) for key in keys}
        self._current = _id(keys[0])

    @property
    def key_id(self) -> str:
        """Which key seals now; safe to show."""
        return self._current.hex()

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The keys it can open with, the newest first; safe to show."""
        return tuple(key_id.hex() for key_id in self._keys)

    def seal_with(self, key_id: str) -> None:
        """Seal with this one of its keys from now on; ``MasterKeyWrong`` when it is none of them."""
        if key_id not in self.key_ids:
            raise MasterKeyWrong(key_id, self.key_ids)
        self._current = bytes.fromhex(key_id)

    def seal(self, secret: str, bound: str, *, key_id: str | None = None) -> bytes:
        """Encrypt ``secret`` for the place ``bound`` names, e.g. ``credentials.sealed:<id>``; under the key that seals
        now, or another one of ours."""
        key, nonce = AESGCM.generate_key(256), os.urandom(NONCE_BYTES)
        master = bytes.fromhex(key_id) if key_id is not None else self._current
        return self._wrap(key, bound, master) + nonce + AESGCM(key).encrypt(nonce, secret.encode(), bound.encode())

    def open(self, blob: bytes, bound: str) -> str:
        """The secret, or :class:`MasterKeyWrong` / :class:`SealBroken`."""
        key = self._unwrap(blob, bound)
        try:
            return AESGCM(key).decrypt(blob[HEADER - NONCE_BYTES : HEADER], blob[HEADER:], bound.encode()).decode()
        except InvalidTag:
            raise SealBroken(bound) from None

    def rewrap(self, blob: bytes, bound: str) -> bytes:
        """The same secret under the key that seals now; unchanged when it is already."""
        if blob[1:9] == self._current:
            return blob
        return self._wrap(self._unwrap(blob, bound), bound, self._current) + blob[HEADER - NONCE_BYTES :]

    def _wrap(self, key: bytes, bound: str, master: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        wrapped = self._keys[master].encrypt(nonce, key, master + bound.encode())
        return VERSION + master + nonce + wrapped

    def _unwrap(self, blob: bytes, bound: str) -> bytes:
        if len(blob) <= HEADER or blob[:1] != VERSION:
            raise SealBroken(bound)
        key_id = blob[1:9]
        master = self._keys.get(key_id)
        if master is None:
            raise MasterKeyWrong(key_id.hex(), [k.hex() for k in self._keys])
        nonce, wrapped = blob[9 : 9 + NONCE_BYTES], blob[9 + NONCE_BYTES : HEADER - NONCE_BYTES]
        try:
            return master.decrypt(nonce, wrapped, key_id + bound.encode())
        except InvalidTag:
            raise SealBroken(bound) from None


def key_id_of(blob: bytes) -> str:
    """Which master key a sealed value is under."""
    return blob[1:9].hex()


def derive(root: bytes, purpose: str) -> bytes:
    """32 bytes for one use (signing media tickets), from a secret that all processes share."""
    return HKDF(hashes.SHA256(), 32, None, purpose.encode()).derive(root)


def _id(key: bytes) -> bytes:
    return hashlib.sha256(b"anycarrier master key\0" + key).digest()[:8]


def read_keys(text: str) -> list[bytes]:
    """Keys written in base64, apart by commas or lines; the first is the current one."""
    try:
        return [base64.b64decode(word, validate=True) for word in text.replace(",", " ").split()]
    except binascii.Error:
        wrong = "the master key is not base64: correct ANYCARRIER_MASTER_KEY, or master.key in the data folder"
        raise ConfigurationError(wrong) from None


def write_key(key: bytes) -> str:
    """A key as text."""
    return base64.b64encode(key).decode()


def new_key() -> bytes:
    """A fresh master key."""
    return os.urandom(KEY_BYTES)


def keys_from_file(path: Path) -> list[bytes]:
    """The keys in a key file, which is made with one new key (0600) when it is missing.

    A file that others may read is refused: a secret that was readable is not one any more.
    """
    if not path.exists():
        # Written whole beside it and linked into place: of processes starting together one makes the key, all use it.
        beside = path.with_suffix(f".{os.getpid()}")
        _write_private(beside, [new_key()])
        try:
            os.link(beside, path)
        except FileExistsError:
            pass
        finally:
            beside.unlink()
    if path.stat().st_mode & 0o077:
        raise ConfigurationError(f"{path} may be read by others: chmod 600 it, then `anycarrier rotate-key`")
    return read_keys(path.read_text())


def write_keys(path: Path, keys: Sequence[bytes]) -> None:
    """Replace a key file in one step, so that no crash leaves half a key."""
    beside = path.with_suffix(".new")
    _write_private(beside, keys)
    os.replace(beside, path)


def _write_private(path: Path, keys: Sequence[bytes]) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write("".join(write_key(key) + "\n" for key in keys))
        file.flush()
        os.fsync(file.fileno())


def oneinbox_headers(secret: str, event_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Headers for a delivery; ``timestamp`` in Unix seconds."""
    signed = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return {
        "X-OneInbox-Event-Id": event_id,
        "X-OneInbox-Timestamp": str(timestamp),
        "X-OneInbox-Signature": f"v1={signed}",
    }


def inkbox_headers(key: str, request_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Headers for a delivery, or for an agent socket, where ``body`` is the value of ``X-Call-Context``."""
    message = f"{request_id}.{timestamp}.".encode() + body
    signed = hmac.new(key.removeprefix("whsec_").encode(), message, hashlib.sha256).hexdigest()
    return {
        "X-Inkbox-Request-ID": request_id,
        "X-Inkbox-Timestamp": str(timestamp),
        "X-Inkbox-Signature": f"sha256={signed}",
    }


def new_signing_key() -> str:
    """``whsec_...``: 256 random bits as text."""
    return f"whsec_{secrets.token_hex(32)}"
