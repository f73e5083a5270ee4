"""One writer at a time: a lock that ends with its process, however that ends."""

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from coby.utils.exceptions import StoreLockedError

# Windows refuses to read a locked range: lock one byte far behind the text that others shall read.
_LOCKED_BYTE = 1 << 30


class WriterLock:
    """Holds `path` locked until it is closed; the file's text is the holder's process id.

    Raises:
        StoreLockedError: Somebody holds it; the message names the process.
    """

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(self._handle)
        except OSError as error:
            holder = os.read(self._handle, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._handle)
            raise StoreLockedError(
                f"{path.parent}: process {holder} writes to this store; stop it or name another data directory",
                context={"path": str(path), "pid": holder},
            ) from error
        os.truncate(self._handle, 0)
        os.write(self._handle, f"{os.getpid()}\n".encode())

    def close(self) -> None:
        """Gives the lock back; again is harmless."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        os.lseek(handle, 0, os.SEEK_SET)
else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
