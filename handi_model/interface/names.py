"""Tells diffusers of HandiPipeline, so that `DiffusionPipeline.from_pretrained` finds it by name.

diffusers looks for a pipeline's class in its own module, and for the class of a network in its
`pipelines`. Both are told once they and this package are imported, in either order, and without
torch: the workers that import this package for its masks have no need of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

NAMES: dict[str, dict[str, Callable[[], Any]]] = {
    "diffusers": {"HandiPipeline": lambda: import_module("handi_model.pipeline").HandiPipeline},
    # The library that a saved pipeline names for its network.
    "diffusers.pipelines": {"handi_model.unet": lambda: import_module("handi_model.unet")},
}
"""diffusers' module -> name to be found in it -> what it stands for."""


def tell_diffusers() -> None:
    """Add the names to diffusers, now or once it is imported."""
    for module in NAMES.keys() & sys.modules.keys():
        _add_names(module)
    sys.meta_path.insert(0, _Told())


def _add_names(module: str) -> None:
    names = NAMES[module]

    def found(name: str) -> Any:
        if name not in names:
            raise AttributeError(name)  # the module's own way to find it comes next
        return names[name]()

    # As a module's own `__getattr__` (PEP 562), which is asked for what it does not hold.
    sys.modules[module].__getattr__ = found  # type: ignore[method-assign]


class _Told:
    """Lets the other finders find diffusers, and adds the names when it has been run."""

    def __init__(self) -> None:
        self._asking: set[str] = set()

    def find_spec(
        self, module: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if module not in NAMES or module in self._asking:
            return None
        self._asking.add(module)
        try:
            spec = find_spec(module)
        finally:
            self._asking.discard(module)
        if spec and spec.loader:
            run = spec.loader.exec_module

            def run_and_tell(made: ModuleType) -> None:
                run(made)
                _add_names(module)

            spec.loader.exec_module = run_and_tell  # type: ignore[method-assign, assignment]
        return spec
