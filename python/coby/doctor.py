"""What `coby doctor` says: the effective settings, where each came from, and whether what they name works.

It changes nothing that stays: to see whether a directory can be written, it makes a file there and removes it.
"""

import os
import platform
import shutil
import socket
import ssl
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from coby import _core
from coby.config import Settings
from coby.utils.exceptions import CobyError
from coby.utils.redaction import redact

Level = Literal["ok", "warning", "failed"]

MINIMUM_FREE = 1 << 30
"""Bytes that the disk under the data directory should have free."""

_PACKAGES = ("pyarrow", "pydantic", "pydantic-settings", "rich")
_SECONDS = 2.0
_MARKS: dict[Level, str] = {"ok": "ok     ", "warning": "warning", "failed": "FAILED "}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    level: Level
    text: str
    """What was found, and if something is wrong, what to do."""


@dataclass(frozen=True, slots=True)
class Report:
    """All that the doctor found; secrets are masked."""

    versions: dict[str, str]
    settings: list[dict[str, str]]
    """For each setting `name variable value origin where doc`."""
    findings: list[Finding]

    @property
    def healthy(self) -> bool:
        """Whether nothing failed; warnings are no failures."""
        return all(finding.level != "failed" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON: `healthy versions settings findings`."""
        return {"healthy": self.healthy} | asdict(self)

    def __str__(self) -> str:
        """For people."""
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        settings = [(setting["name"], setting["value"], setting["where"] or "default") for setting in self.settings]
        checks = [(_MARKS[finding.level], finding.name, finding.text) for finding in self.findings]
        failed = sum(finding.level == "failed" for finding in self.findings)
        verdict = "nothing stands in the way" if not failed else f"{failed} of {len(checks)} checks failed"
        return "\n".join([versions, "", "settings", *_columns(settings), "", "checks", *_columns(checks), "", verdict])


def diagnose(settings: Settings, more: Mapping[str, Callable[[], Finding]] | None = None) -> Report:
    """Looks at everything; takes a few seconds where a server does not answer.

    Args:
        settings: The effective ones.
        more: Further checks by name, such as those of parts that this module must not know.
    """
    checks: dict[str, Callable[[], Finding | None]] = {
        "variables": lambda: _misspelt(settings),
        "venues": lambda: _venues(settings),
        "data directory": lambda: _directory(settings.data_dir),
        "disk": lambda: _space(settings.data_dir),
        "tape": lambda: _tape(settings.data_dir),
        "http": lambda: _port(settings.host, settings.port),
        "log file": lambda: _log_file(settings.log_file),
        "certificates": lambda: _certificates(settings.root_certificates),
        "database": lambda: _server("database", settings.db_host, settings.db_port, "the embedded store is used"),
        "redis": lambda: _server("redis", settings.redis_host, settings.redis_port, "none is used"),
        **(more or {}),
    }
    findings = [finding for name, check in checks.items() if (finding := _safely(name, check)) is not None]
    return Report(_versions(), [asdict(report) for report in settings.report()], findings)


def _safely(name: str, check: Callable[[], Finding | None]) -> Finding | None:
    try:
        return check()
    except (CobyError, OSError) as error:
        return Finding(name, "failed", redact(str(error)))


def _versions() -> dict[str, str]:
    core = _core.build_info()
    versions = {
        "coby": core["version"],
        "core": f"{core['code'][:12]} ({core['profile']}, {core['target']})",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "missing"
    return versions


def _misspelt(settings: Settings) -> Finding:
    strange = settings.unknown_variables
    if not strange:
        return Finding("variables", "ok", "every COBY_ variable is a setting")
    told = [f"{name} is no setting{f' (did you mean {near[0]}?)' if near else ''}" for name, near in strange.items()]
    return Finding("variables", "warning", "; ".join(told))


def _venues(settings: Settings) -> Finding:
    venues = {str(venue["id"]): venue["closed"] for venue in _core.venues()}
    chosen = settings.chosen_venues(venues)
    closed = [f"{venue} cannot be connected to: {venues[venue]}" for venue in chosen if venues[venue]]
    # Passed over in silence only if nobody named it.
    if closed and settings.venues:
        return Finding("venues", "failed", "; ".join(closed))
    return Finding("venues", "ok", ", ".join(venue for venue in chosen if not venues[venue]))


def _directory(path: Path) -> Finding:
    existing = _existing(path)
    try:
        with tempfile.NamedTemporaryFile(dir=existing, prefix=".coby-doctor-"):
            pass
    except OSError as error:
        return Finding(
            "data directory", "failed", f"{existing} cannot be written ({error.strerror}); set COBY_DATA_DIR"
        )
    state = "can be written" if path.exists() else f"will be made; {existing} can be written"
    return Finding("data directory", "ok", f"{path} {state}")


def _space(path: Path) -> Finding:
    free = shutil.disk_usage(_existing(path)).free
    text = f"{free / 2**30:,.1f} GiB are free"
    if free < MINIMUM_FREE:
        return Finding("disk", "warning", f"{text}; make room, or set COBY_DATA_DIR to another disk")
    return Finding("disk", "ok", text)


def _tape(path: Path) -> Finding:
    tape = path / "tape"
    if not tape.is_dir():
        return Finding("tape", "ok", "none yet")
    info = _core.tape_info(str(tape))
    text = f"{info['records']:,} records in {len(info['segments'])} segments, {info['bytes']:,} bytes"
    return Finding("tape", "ok", f"{text}; `coby tape verify {path}` reads all of it")


def _port(host: str, port: int) -> Finding:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            # As servers do: a connection that has just ended does not hold the port.
            if sys.platform != "win32":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1)
    except OSError as error:
        return Finding(
            "http", "failed", f"{host}:{port} cannot be listened at ({error.strerror}); set COBY_PORT or --port"
        )
    return Finding("http", "ok", f"{host}:{port} is free")


def _log_file(path: Path | None) -> Finding:
    if path is None:
        return Finding("log file", "ok", "none is written")
    target = path if path.exists() else _existing(path.parent)
    if path.is_dir() or not os.access(target, os.W_OK):
        return Finding("log file", "failed", f"{path} cannot be written; set COBY_LOG_FILE")
    return Finding("log file", "ok", str(path))


def _certificates(path: Path | None) -> Finding | None:
    if path is None:
        return None
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(path)
    except (OSError, ssl.SSLError) as error:
        return Finding("certificates", "failed", f"{path} holds no certificates that can be read ({error})")
    return Finding("certificates", "ok", f"{path}: {len(context.get_ca_certs())} root certificates")


def _server(name: str, host: str | None, port: int, without: str) -> Finding:
    if host is None:
        return Finding(name, "ok", f"not set: {without}")
    where = f"{host}/.s.PGSQL.{port}" if host.startswith("/") else f"{host}:{port}"
    try:
        if host.startswith("/"):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_SECONDS)
                connection.connect(where)
        else:
            socket.create_connection((host, port), _SECONDS).close()
    except OSError as error:
        variables = "DB_HOST and DB_PORT" if name == "database" else "REDIS_HOST and REDIS_PORT"
        return Finding(name, "failed", f"{where} does not answer ({error.strerror or error}); look at {variables}")
    return Finding(name, "ok", f"{where} answers")


def _existing(path: Path) -> Path:
    """The path, or the nearest directory above it that is there."""
    path = path.absolute()
    return next(candidate for candidate in (path, *path.parents) if candidate.exists())


def _columns(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    return [f"  {row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}".rstrip() for row in rows]
