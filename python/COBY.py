"""`COBY`: the name that the package is printed with. `import COBY.config` gives the module `coby.config` itself.

A single file and not a folder: on systems that ignore case, `COBY/` and `coby/` would be one folder.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

import coby


class _SameModule(MetaPathFinder, Loader):
    """Finds `COBY.x` as `coby.x`: never a second copy, so classes and settings are the same objects."""

    def __init__(self) -> None:
        self._specs: dict[str, ModuleSpec | None] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith("COBY.") or find_spec(_real(fullname)) is None:
            return None
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(_real(spec.name))
        self._specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The module has run already. The import system has just put the spec of the alias into it: undo that.
        alias = module.__spec__
        if alias is not None and alias.loader is self:
            module.__spec__ = self._specs.pop(alias.name)


def _real(alias: str) -> str:
    return "coby" + alias.removeprefix("COBY")


sys.meta_path.insert(0, _SameModule())
sys.modules["COBY"] = coby
