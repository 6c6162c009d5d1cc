"""Access to the dashboard: host, token, origin, and a read-only mode, checked before optuna-dashboard sees a request.

optuna-dashboard has no authentication, and deletes studies on request. A page of another site must not reach it through the user's
browser (DNS rebinding, cross-site requests), nor another user of this machine by its port.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Callable, Iterable
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from dashboards.shown_attributes import Application

_READING = ("GET", "HEAD", "OPTIONS")
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_HEADERS = [
    ("X-Frame-Options", "SAMEORIGIN"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
]


def new_token() -> str:
    """Return a random token of 32 characters."""
    return secrets.token_urlsafe(24)


def guarded(application: Application, *, host: str, port: int, token: str, read_only: bool) -> Application:
    """Wrap a WSGI application so that only requests of an authorised client reach it.

    Args:
        application: the dashboard.
        host: address that the server listens on; decides the accepted ``Host`` headers.
        port: port of the server, part of the cookie's name.
        token: secret that a request carries as ``?token=``, as ``Authorization: Bearer`` or as the cookie that the page sets.
        read_only: refuse every request that could change a study.
    """
    cookie = f"paretoseg-{port}"

    def wrapped(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method = environ.get("REQUEST_METHOD", "GET")
        query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        shown = query.pop("token", [""])[0]

        def refuse(status: str, text: str) -> Iterable[bytes]:
            body = f"{text}\n".encode()
            plain = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
            start_response(status, [*plain, *_HEADERS])
            return [body]

        if not is_known_host(environ.get("HTTP_HOST", ""), host):
            return refuse("403 Forbidden", "This host name is not one of the dashboard: open the URL that it printed.")
        if not any(_equal(given, token) for given in (shown, _bearer(environ), _cookie(environ, cookie))):
            return refuse("403 Forbidden", "Open the URL that `paretoseg dashboard` printed: it holds the token.")
        if method not in _READING and not is_same_origin(environ):
            return refuse("403 Forbidden", "Another site may not change a study.")
        if method not in _READING and read_only:
            return refuse(
                "403 Forbidden", "This dashboard is read-only: start it without --read-only to change a study."
            )

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            return start_response(status, [*headers, *_HEADERS], *more)

        path = environ.get("PATH_INFO", "")
        if shown and method == "GET" and (path in ("/", "/paretoseg") or path.startswith("/dashboard")):
            address = quote(path) + (f"?{urlencode(query, doseq=True)}" if query else "")
            kept = f"{cookie}={token}; Path=/; HttpOnly; SameSite=Lax"
            start("303 See Other", [("Location", address), ("Set-Cookie", kept), ("Content-Length", "0")])
            return [b""]
        return application(environ, start)

    return wrapped


def is_known_host(header: str, host: str) -> bool:
    """Return True for a ``Host`` header that names the server.

    Args:
        header: name or address, with or without a port; the port may be that of a tunnel.
        host: address that the server listens on. ``0.0.0.0`` accepts every IP address and this machine's names.
    """
    name = header.lower() if header.endswith("]") else header.lower().rpartition(":")[0] or header.lower()
    if not name:
        return False
    if name in _LOOPBACK or name == host.lower():
        return True
    if host not in ("", "0.0.0.0", "::"):
        return False
    if name in (socket.gethostname().lower(), socket.getfqdn().lower()):
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def is_same_origin(environ: dict[str, Any]) -> bool:
    """Return True unless a browser says that a page of another origin sent the request; other clients say nothing."""
    if environ.get("HTTP_SEC_FETCH_SITE", "none") not in ("same-origin", "none"):
        return False
    origin = environ.get("HTTP_ORIGIN")
    return origin is None or urlsplit(origin).netloc.lower() == environ.get("HTTP_HOST", "").lower()


def _bearer(environ: dict[str, Any]) -> str:
    scheme, _, value = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def _cookie(environ: dict[str, Any], name: str) -> str:
    try:
        found = SimpleCookie(environ.get("HTTP_COOKIE", "")).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def _equal(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())
