"""Which requests of a browser a service without keys takes: those of its own pages.

Any web page can have its reader's browser send requests to a service on the reader's machine. It
cannot forge `Host`, `Origin` and `Sec-Fetch-Site`, by which it is told: by `Host` also where the
page's own name was made to point at this machine (DNS rebinding). Programs send no origin, and
are not refused for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers

HERE = ("localhost", "*.localhost")
REMEDY = "if it is meant to, start the service with hosts={}, or with API keys"


def foreign(method: str, headers: Headers, hosts: Sequence[str]) -> str | None:
    """Why a request is not of the service's own pages, nor of a program; None if it may come in.

    Args:
        hosts: names that the service has beside localhost and its addresses; `*.NAME` for all
            below one, `*` for any.
    """
    host = headers.get("host", "")
    name = _name(host)
    # An address is no name that somebody else could have made to point here.
    if host and not (_is_address(name) or _known(name, hosts)):
        return f"the host name {name!r} is not this service's; {REMEDY.format(name or 'NAME')}"
    origin = headers.get("origin")
    if origin is not None:
        ours = origin.partition("://")[2].lower() == host.lower() or _known(_name(origin), hosts)
        if ours or _is_loopback(_name(origin)):
            return None
        known = _name(origin) or "NAME"
        return f"a page of {origin!r} may not use this service; {REMEDY.format(known)}"
    # Whoever follows a link to the service arrives there; a page that embeds it does not.
    followed = method == "GET" and headers.get("sec-fetch-dest") == "document"
    if headers.get("sec-fetch-site") == "cross-site" and not followed:
        return f"pages of other sites may not use this service; {REMEDY.format('NAME')}"
    return None


def _known(name: str, hosts: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in (*HERE, *hosts))


def _name(place: str) -> str:
    """The host name of a `Host` or an `Origin`; empty where there is none."""
    try:
        found = urlsplit(place if "://" in place else f"//{place}").hostname or ""
    except ValueError:
        return ""
    return found.removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    return _is_address(name) and ip_address(name).is_loopback
