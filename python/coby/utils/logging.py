"""Structured logging: one JSON object a line in a rotating file, plain lines on standard error.

Every line carries the correlation id of its task, and no secret: what `redaction` knows is masked in messages, fields
and traces alike. Facts go into `extra`: `log.info("connected", extra={"venue": "kraken"})`.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO

from coby.utils.correlation import get_correlation_id
from coby.utils.exceptions import CobyError, ConfigError
from coby.utils.redaction import redact, redact_value

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "correlation_id"}
_OURS = "coby"


def setup_logging(
    level: str = "INFO",
    log_file: str | Path | None = None,
    *,
    console: TextIO | bool = True,
    max_bytes: int = 10 * 1024 * 1024,
    backups: int = 5,
) -> None:
    """Sets the root logger up. Again replaces what an earlier call set up, and nothing that others did.

    Args:
        level: `DEBUG INFO WARNING ERROR CRITICAL`, in any case.
        log_file: Where JSON lines go; directories are made. None for no file.
        console: Where plain lines go; True for standard error, False for nowhere.
        max_bytes: The file is put aside as `.1`, `.2`, ... when it has grown to this.
        backups: How many of those are kept.

    Raises:
        ConfigError: There is no such level, or the file cannot be opened.
    """
    name = level.upper()
    if name not in LEVELS:
        raise ConfigError(f'log level is "{level}": it must be one of {", ".join(LEVELS)}', context={"level": level})
    handlers: list[logging.Handler] = []
    if log_file is not None:
        handlers.append(_file_handler(Path(log_file), max_bytes, backups))
    if console is not False:
        handlers.append(logging.StreamHandler(sys.stderr if console is True else console))
        handlers[-1].setFormatter(PlainFormatter())
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if handler.name == _OURS]:
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        handler.name = _OURS
        handler.addFilter(_correlate)
        root.addHandler(handler)
    root.setLevel(name)


def get_logger(name: str = _OURS) -> logging.Logger:
    """The logger of a module: `get_logger(__name__)`."""
    return logging.getLogger(name)


def _file_handler(path: Path, max_bytes: int, backups: int) -> logging.Handler:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(path, maxBytes=max_bytes, backupCount=backups, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"log file is {path}, which cannot be written ({error.strerror})", context={"path": str(path)}
        ) from error
    handler.setFormatter(JsonFormatter())
    return handler


def _correlate(record: logging.LogRecord) -> bool:
    if not hasattr(record, "correlation_id"):
        record.correlation_id = get_correlation_id()
    return True


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: `time level logger message`, then `correlation_id`, facts, and `error` if any."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        correlation_id = getattr(record, "correlation_id", None)
        if correlation_id is not None:
            line["correlation_id"] = correlation_id
        line |= _facts(record)
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = _error(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, separators=(",", ":"), default=str)


class PlainFormatter(logging.Formatter):
    """A record as a line for people: time, level, logger, message, facts; a trace below it if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The text, without its end."""
        facts = _facts(record)
        correlation_id = getattr(record, "correlation_id", None)
        if correlation_id is not None:
            facts["correlation_id"] = correlation_id
        told = "".join(f" {name}={value}" for name, value in facts.items())
        # A message must not pretend to be several.
        message = redact(record.getMessage()).replace("\n", "\\n").replace("\r", "\\r")
        text = f"{_time(record)} {record.levelname:<8} {record.name}: {message}{told}"
        if record.exc_info and record.exc_info[1] is not None:
            text += "\n" + redact("".join(traceback.format_exception(record.exc_info[1])).rstrip())
        return text


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _facts(record: logging.LogRecord) -> dict[str, object]:
    given = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    return {name: redact_value(name, value) for name, value in given.items()}


def _error(error: BaseException) -> dict[str, object]:
    told: dict[str, object] = {"type": type(error).__name__, "message": redact(str(error))}
    if isinstance(error, CobyError):
        told |= {"code": error.code, "context": redact_value("context", error.context)}
    return told | {"trace": redact("".join(traceback.format_exception(error)))}
