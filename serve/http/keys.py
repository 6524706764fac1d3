"""API keys: who may ask, and whose a job is."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Sequence

from serve.secret_files import read_secret

VARIABLE = "HANDI_API_KEYS"


def fingerprints(file: str | None = None, listed: Sequence[str] = ()) -> list[str]:
    """Of all keys that are known here; none leaves the service open to all.

    Only fingerprints travel through the cluster and into the store.

    Args:
        file: with keys, one a line or separated by commas.
        listed: fingerprints themselves.

    The variable `HANDI_API_KEYS` adds its keys, separated by commas.

    Raises:
        ValueError: if the file cannot be read, or if file or variable is given but holds no key,
            which would open the service unseen.
    """
    known = list(listed)
    if file:
        known += _of_keys("api_keys_file", read_secret("api_keys_file", file))
    if VARIABLE in os.environ:
        known += _of_keys(VARIABLE, os.environ[VARIABLE])
    return known


def _of_keys(name: str, text: str) -> list[str]:
    keys = [key.strip() for key in re.split(r"[,\n]", text) if key.strip()]
    if not keys:
        raise ValueError(f"{name}: set, but without a key; give keys, or unset it")
    return [fingerprint(key) for key in keys]


def fingerprint(key: str) -> str:
    """SHA-256, as `printf %s KEY | sha256sum` gives it."""
    return hashlib.sha256(key.encode()).hexdigest()


def owner_of(key: str | None, known: list[str]) -> str | None:
    """The fingerprint under which a key's jobs stand: "" for an open service, None if refused."""
    if not known:
        return ""
    given = fingerprint(key or "")
    # All are compared, each in constant time: how long it takes tells nothing about the keys.
    matches = [hmac.compare_digest(given, one) for one in known]
    return given if any(matches) else None
