"""Byte-compiling the guest's Python library outside, where that is a hundred times faster than in the
emulator.

Byte code is the same on every machine but differs between versions of Python: this works when the guest's
version is the one that runs here. Else the guest compiles what is used most (guest/configure).
"""

from __future__ import annotations

import importlib.util
import marshal
import re
import struct
import sys
import warnings
from collections.abc import Callable

from storage.images.tree import Node, Tree

LIBRARIES = re.compile(r"/usr/lib/python3(\.\d+)?/.*\.py")
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def compile_python(tree: Tree, report: Callable[[int, int], None]) -> bool:
    """Writes the `.pyc` files of PEP 3147 for the guest's library; False when its version is another than
    this one.

    `report(done, total)` counts files.
    """
    if tree.find("/usr/bin/python3") is None:
        return True
    if tree.find(f"/usr/bin/python{HERE}") is None:
        return False
    sources = [
        (path, node) for path, node in tree.walk() if LIBRARIES.fullmatch(path) and node.content is not None
    ]
    for done, (path, node) in enumerate(sources, 1):
        _compile(tree, path, node)
        report(done, len(sources))
    return True


def _compile(tree: Tree, path: str, node: Node) -> None:
    source = node.content.read() if node.content else b""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = compile(source, path, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError):
        return  # a file that is no module of this version, as some test data
    header = importlib.util.MAGIC_NUMBER + struct.pack(
        "<III", 0, node.mtime & 0xFFFFFFFF, len(source) & 0xFFFFFFFF
    )
    directory, _, name = path.rpartition("/")
    compiled = f"{directory}/__pycache__/{name.removesuffix('.py')}.{sys.implementation.cache_tag}.pyc"
    tree.write(compiled, header + marshal.dumps(code)).mtime = node.mtime
