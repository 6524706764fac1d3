"""API keys: who may ask, and whose a job is."""

from __future__ import annotations

import hashlib
import hmac
import os

VARIABLE = "HANDI_API_KEYS"


def fingerprints() -> list[str]:
    """Of the keys in the environment, comma-separated; none leaves the service open to all.

    Only fingerprints travel through the cluster and into the store.

    Raises:
        ValueError: if the variable is set but holds no key, which would open the service unseen.
    """
    if VARIABLE not in os.environ:
        return []
    keys = [key.strip() for key in os.environ[VARIABLE].split(",") if key.strip()]
    if not keys:
        raise ValueError(f"{VARIABLE}: set, but without a key; give keys, or unset it")
    return [fingerprint(key) for key in keys]


def fingerprint(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def owner_of(key: str | None, known: list[str]) -> str | None:
    """The fingerprint under which a key's jobs stand: "" for an open service, None if refused."""
    if not known:
        return ""
    given = fingerprint(key or "")
    # All are compared, each in constant time: how long it takes tells nothing about the keys.
    matches = [hmac.compare_digest(given, one) for one in known]
    return given if any(matches) else None
