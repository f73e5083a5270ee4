"""Who may ask, and how much: hosts, rates, time; and one correlation id for everything that a request does."""

import asyncio
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coby.api.answers import problem
from coby.api.errors import ForbiddenError, OverloadedError, RateLimitedError
from coby.api.state import Limits, Monitor
from coby.utils.correlation import correlation
from coby.utils.exceptions import CobyError, ConfigError
from coby.utils.logging import get_logger
from coby.utils.redaction import printable

CORRELATION_HEADER = "X-Correlation-ID"

_CLIENTS = 1024
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_UNLIMITED = ("/api/v1/health/", "/metrics")
_log = get_logger(__name__)


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach what listens at this host."""
    host = host.strip().removeprefix("[").removesuffix("]").lower()
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_binding(host: str, keys: Collection[str] = ()) -> None:
    """Refuses to serve a network without keys: whoever reaches the port could read everything.

    Args:
        host: Where the server shall listen.
        keys: Keys that programs must show.

    Raises:
        ConfigError: The host is not of loopback, and there is no key.
    """
    if not keys and not is_loopback(host):
        raise ConfigError(
            f'COBY_HOST is "{printable(host)}": without a key it must be of this machine alone, like 127.0.0.1;'
            " reach it from elsewhere through a proxy or tunnel that asks who is there",
            "config.open_host",
            {"setting": "host", "value": host, "allowed": sorted(_LOOPBACK_NAMES)},
        )


class Buckets:
    """A token bucket for each client; those that have been quiet for longest are forgotten.

    Args:
        rate: Tokens that come back each second.
        burst: Tokens that a bucket holds.
        clock: Seconds that only grow; for tests.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> float:
        """Takes a token; else says in how many seconds there will be one."""
        now = self._clock()
        tokens, since = self._clients.pop(client, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        wait = 0.0
        if tokens >= 1:
            tokens -= 1
        else:
            wait = (1 - tokens) / self._rate
        self._clients[client] = (tokens, now)
        if len(self._clients) > _CLIENTS:
            self._clients.popitem(last=False)
        return wait


class Guard:
    """The outermost layer of the server: what it refuses never reaches a route, and what fails inside is answered.

    Args:
        app: What it guards.
        monitor: Counts answers.
        hosts: Names that requests may be addressed to, besides those of loopback: a page elsewhere whose name was
            made to point here would be addressed to by its own.
        limits: What clients are held to.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        monitor: Monitor,
        hosts: Iterable[str] = (),
        limits: Limits,
    ) -> None:
        self._app = app
        self._monitor = monitor
        self._hosts = _LOOPBACK_NAMES | {host.strip("[]").lower() for host in hosts}
        self._buckets = Buckets(limits.requests_per_second, limits.request_burst)
        self._limits = limits
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        began = time.perf_counter()
        with correlation(headers.get(CORRELATION_HEADER)) as identity:
            status = 0

            async def answer(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                    added = MutableHeaders(scope=message)
                    added[CORRELATION_HEADER] = identity
                    added["X-Content-Type-Options"] = "nosniff"
                    added.setdefault("Cache-Control", "no-store")
                await send(message)

            self._running += 1
            try:
                self._check(scope, headers)
                async with asyncio.timeout(self._limits.request_seconds):
                    await self._app(scope, receive, answer)
            except TimeoutError:
                _log.warning("a request took too long", extra={"path": printable(scope["path"])})
                if status == 0:
                    late = OverloadedError(
                        f"the answer took longer than {self._limits.request_seconds:g} s; ask for less",
                        context={"limit": "request_seconds", "value": self._limits.request_seconds},
                    )
                    await problem(late)(scope, receive, answer)
            except CobyError as error:
                if status:
                    raise
                await problem(error)(scope, receive, answer)
            except Exception:
                _log.exception("a request failed", extra={"path": printable(scope["path"])})
                if status:
                    raise
                # What went wrong stands in the log, under the id that the answer names; strangers are not told.
                await problem(CobyError("the request failed inside the server"))(scope, receive, answer)
            finally:
                self._running -= 1
                route = getattr(scope.get("route"), "path", "none")
                self._monitor.observe(route, scope["method"], status, time.perf_counter() - began)

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            raise ForbiddenError(
                f'the request is addressed to "{printable(host)}", which is not this server',
                context={"host": printable(host), "allowed": sorted(self._hosts)},
            )
        path: str = scope["path"]
        if path.startswith(_UNLIMITED):
            return
        if self._running > self._limits.concurrent_requests:
            raise OverloadedError(
                f"{self._limits.concurrent_requests} requests are under way",
                context={"limit": "concurrent_requests", "value": self._limits.concurrent_requests, "retry_after": 1},
            )
        client = scope.get("client")
        wait = self._buckets.take(client[0] if client else "")
        if wait:
            rate, burst = self._limits.requests_per_second, self._limits.request_burst
            raise RateLimitedError(
                f"more than {rate:g} requests a second (bursts of {burst:g})",
                context={
                    "limit": "requests_per_second",
                    "value": rate,
                    "burst": burst,
                    "retry_after": max(1, -int(-wait // 1)),
                },
            )

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        return name is not None and name in self._hosts
