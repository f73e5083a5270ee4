"""The file layer: every change that a store makes to a disk, one durable step at a time.

A crash test replaces it by a disk that loses whatever was not synced.
"""

import os
import sqlite3
import sys
from pathlib import Path


class Files:
    """Changes to a file system, and what makes each of them survive a power cut.

    The contents of a file survive after `sync`; its name, and its absence, after `sync_directory` of the directory that
    holds it.
    """

    def write(self, path: Path, data: bytes | memoryview) -> None:
        """Creates or replaces a file; neither contents nor name are durable yet."""
        with path.open("wb") as file:
            file.write(data)

    def sync(self, path: Path) -> None:
        """Makes the contents of a file durable."""
        with path.open("rb+") as file:
            os.fsync(file.fileno())

    def rename(self, source: Path, target: Path) -> None:
        """Renames a file, replacing the target."""
        source.replace(target)

    def remove(self, path: Path) -> None:
        """Removes a file if it is there."""
        path.unlink(missing_ok=True)

    def make_directory(self, path: Path) -> None:
        """Makes one directory if it is not there; its name is not durable yet."""
        path.mkdir(exist_ok=True)

    def sync_directory(self, path: Path) -> None:
        """Makes the names in a directory durable."""
        if sys.platform == "win32":  # directories cannot be opened there; NTFS journals names itself
            return
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def commit(self, catalogue: sqlite3.Connection) -> None:
        """Ends the open transaction, durably."""
        catalogue.execute("COMMIT")
