"""A clip's own seed: what is drawn for it does not depend on its neighbours or on who draws."""

from __future__ import annotations

import hashlib


def clip_seed(seed: int, clip_id: str) -> int:
    """A clip's own seed, [0, 2**63)."""
    return int.from_bytes(hashed(f"{seed}/{clip_id}")[:8]) >> 1


def hashed(text: str) -> bytes:
    """32 bytes that look random and stay."""
    return hashlib.sha256(text.encode()).digest()
