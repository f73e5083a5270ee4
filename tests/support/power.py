"""A disk that can lose its power: whatever was not synced may be gone, old, new or torn."""

import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from coby.storage.files import Files

Step = Callable[[], None]

CATALOGUE = "catalogue.sqlite"


class PowerCut(BaseException):
    """The machine is off. Not an Exception: nothing that runs may handle it."""


@dataclass
class _File:
    now: bytes
    synced: bytes | None = None


class PowerCutDisk(Files):
    """The real directory `root` as the operating system shows it, and beside it what a power cut would leave.

    The last step of a process never happens, or just happens, or half happens; then `PowerCut` is raised. Without
    `restore` that was the end of the process only, and what was not synced is still at risk. `restore` makes the
    directory what the platter holds: names that were not synced are there or not, each by a throw of the dice, and
    bytes that were not synced are there, torn or missing. The catalogue is a real SQLite database; a commit under way
    leaves its log as it was before, torn anywhere, or whole.
    """

    def __init__(self, root: Path, random: Random) -> None:
        self._root = root
        self._random = random
        self.start(None)
        self._now: dict[Path, _File | None] = {}
        for path in sorted(path for path in root.rglob("*") if not path.name.startswith((CATALOGUE, "store.lock"))):
            data = path.read_bytes() if path.is_file() else None
            self._now[path] = None if data is None else _File(data, data)
        self._platter = dict(self._now)
        self._catalogue: dict[str, bytes] = {}

    def start(self, cut_at: int | None) -> None:
        """A process starts: its step number `cut_at` will be its last."""
        self._cut_at = cut_at
        self.steps = 0
        self._off = False

    def write(self, path: Path, data: bytes | memoryview) -> None:
        def step() -> None:
            super(PowerCutDisk, self).write(path, data)
            self._now[path] = _File(bytes(data))

        self._step(step)

    def sync(self, path: Path) -> None:
        def step() -> None:
            file = self._now[path]
            assert file is not None
            file.synced = file.now

        self._step(step)

    def rename(self, source: Path, target: Path) -> None:
        def step() -> None:
            super(PowerCutDisk, self).rename(source, target)
            self._now[target] = self._now.pop(source)

        self._step(step)

    def remove(self, path: Path) -> None:
        def step() -> None:
            super(PowerCutDisk, self).remove(path)
            self._now.pop(path, None)

        self._step(step)

    def make_directory(self, path: Path) -> None:
        def step() -> None:
            super(PowerCutDisk, self).make_directory(path)
            self._now.setdefault(path, None)

        self._step(step)

    def sync_directory(self, path: Path) -> None:
        def step() -> None:
            for child in {p for p in (*self._now, *self._platter) if p.parent == path}:
                if child in self._now:
                    self._platter[child] = self._now[child]
                else:
                    self._platter.pop(child, None)

        self._step(step)

    def commit(self, catalogue: sqlite3.Connection) -> None:
        before = self._catalogue_files()

        def step() -> None:
            super(PowerCutDisk, self).commit(catalogue)

        def half() -> None:
            step()
            after = self._catalogue_files()
            log, old = after.get(f"{CATALOGUE}-wal", b""), before.get(f"{CATALOGUE}-wal", b"")
            same = next((i for i, (a, b) in enumerate(zip(log, old, strict=False)) if a != b), min(len(log), len(old)))
            torn = self._random.randint(same, len(log))
            # A checkpoint writes to the database only what is whole in the log.
            if after.get(CATALOGUE) == before.get(CATALOGUE):
                after[f"{CATALOGUE}-wal"] = log[:torn] + old[torn:]
            self._catalogue = after

        self._step(step, half)

    def _step(self, step: Step, half: Step | None = None) -> None:
        assert not self._off, "the machine is off"
        if self.steps == self._cut_at:
            self._off = True
            self._catalogue = self._catalogue_files()
            match self._random.randrange(3):
                case 0:
                    step()
                    self._catalogue = self._catalogue_files()
                case 1 if half is not None:
                    half()
            raise PowerCut
        step()
        self.steps += 1

    def restore(self) -> None:
        """Makes the directory what the power cut left."""
        left: dict[Path, _File | None] = {}
        for path in sorted({*self._now, *self._platter}):
            copies = [disk[path] for disk in (self._now, self._platter) if path in disk]
            if path.parent != self._root and path.parent not in left:
                continue
            if len(copies) == 2 or self._random.random() < 0.5:
                left[path] = self._random.choice(copies)
        shutil.rmtree(self._root)
        self._root.mkdir()
        self._now = {path: None if file is None else self._survivor(file) for path, file in left.items()}
        self._platter = dict(self._now)
        for path, survivor in self._now.items():
            if survivor is None:
                path.mkdir()
            else:
                path.write_bytes(survivor.now)
        for name, data in self._catalogue.items():
            (self._root / name).write_bytes(data)

    def _survivor(self, file: _File) -> _File:
        torn = file.now[: self._random.randint(0, len(file.now))]
        zeros = bytes(len(file.now) - len(torn))
        left = self._random.choice([file.synced or b"", torn, torn + zeros, file.now])
        return file if file.synced == file.now else _File(left, left)

    def _catalogue_files(self) -> dict[str, bytes]:
        paths = (self._root / CATALOGUE, self._root / f"{CATALOGUE}-wal")
        return {path.name: path.read_bytes() for path in paths if path.exists()}
