"""Write ``tensorrt_api.json`` from a clone of github.com/NVIDIA/TensorRT: the signatures of its published Python bindings.

    python tests/hw_latency_model/make_tensorrt_api.py CLONE

Of each release and class: ``methods`` with the arguments of each overload ("name" or "name=" with a default), ``properties`` as
"r", "w" or "rw", and ``values`` of an enumeration. ``functions`` are those of the module.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RELEASES = {
    "7.2": "21.06",
    "8.0": "8.0.1",
    "8.2": "8.2.1",
    "8.4": "8.4.1",
    "8.5": "8.5.2",
    "8.6": "v8.6.1",
    "10.3": "v10.3.0",
    "11.0": "v11.0",
}
FILES = ("infer/pyCore", "infer/pyGraph", "infer/pyFoundationalTypes", "infer/pyPlugin", "parsers/pyOnnx")
CLASSES = {
    "Builder",
    "IBuilderConfig",
    "INetworkDefinition",
    "ILayer",
    "ITensor",
    "OnnxParser",
    "ParserError",
    "Runtime",
    "ICudaEngine",
    "IExecutionContext",
    "ITimingCache",
    "IHostMemory",
    "BuilderFlag",
    "NetworkDefinitionCreationFlag",
    "MemoryPoolType",
    "TensorIOMode",
    "LayerType",
    "DataType",
}
FUNCTIONS = {"init_libnvinfer_plugins"}
_CLASS = re.compile(r'py::(?:class_|enum_)<[^;{]*?>\s*(?:\w+)?\s*[({]\s*\w+,\s*"(\w+)"')
_CALL = re.compile(r"\.(def|def_property|def_property_readonly|def_readwrite|def_readonly|value|def_buffer)\(")
_ARGUMENT = re.compile(r'(?:"(\w+)"_a|py::arg\("(\w+)"\))\s*(=)?')


def main(clone: str) -> None:
    api = {release: table(clone, tag) for release, tag in RELEASES.items()}
    releases = [
        f"{json.dumps(release)}: {{\n"
        + ",\n".join(f" {json.dumps(name)}: {json.dumps(content)}" for name, content in sorted(classes.items()))
        + "\n}"
        for release, classes in api.items()
    ]
    (Path(__file__).parent / "tensorrt_api.json").write_text("{" + ",\n".join(releases) + "}\n")


def table(clone: str, tag: str) -> dict[str, Any]:
    """Signatures of one release."""
    found: dict[str, Any] = {}
    for name in FILES:
        shown = subprocess.run(
            ["git", "-C", clone, "show", f"{tag}:python/src/{name}.cpp"], capture_output=True, text=True, check=True
        )
        text = re.sub(r"//[^\n]*|/\*.*?\*/", "", shown.stdout, flags=re.S)
        for function in FUNCTIONS:
            at = text.find(f'm.def("{function}"')
            if at >= 0:
                found.setdefault("functions", {})[function] = [arguments(inside(text, at + 5))]
        for kind in _CLASS.finditer(text):
            if kind[1] in CLASSES:
                members(text, kind.end(), found.setdefault(kind[1], {}))
    return found


def members(text: str, begin: int, into: dict[str, Any]) -> None:
    """Add the members of the class whose binding begins there."""
    for call, content in calls(text, begin):
        named = re.match(r'\s*"(\w+)"', content)
        name = named[1] if named else "__init__" if content.lstrip().startswith("py::init") else None
        if name is None or (name.startswith("__") and name not in ("__init__", "__len__")):
            continue
        if call == "value":
            into.setdefault("values", []).append(name)
        elif call == "def":
            into.setdefault("methods", {}).setdefault(name, []).append(arguments(content))
        elif call.startswith("def_property") or call in ("def_readwrite", "def_readonly"):
            access = "r" if call in ("def_property_readonly", "def_readonly") else "rw"
            into.setdefault("properties", {})[name] = "w" if re.search(r'"\w+",\s*nullptr', content) else access


def calls(text: str, begin: int) -> Iterator[tuple[str, str]]:
    """The ``.def(...)`` calls of one statement, as the name of the call and its content."""
    depth, at = 0, begin
    while at < len(text):
        found = _CALL.match(text, at)
        if found and depth <= 0:
            content = inside(text, found.end() - 1)
            yield found[1], content
            at = found.end() + len(content) + 1
            continue
        if text[at] == ";" and depth <= 0:
            return
        depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(text[at], 0)
        at += 1


def inside(text: str, at: int) -> str:
    """Content of the brackets that open at or after ``at``."""
    begin = text.index("(", at)
    depth, end, quoted = 0, begin, False
    while True:
        if text[end] == '"':
            quoted = not quoted
        elif not quoted:
            depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return text[begin + 1 : end]
        end += 1


def arguments(content: str) -> list[str]:
    """Arguments of a binding: "name", or "name=" where it has a default."""
    return [(found[1] or found[2]) + ("=" if found[3] else "") for found in _ARGUMENT.finditer(content)]


if __name__ == "__main__":
    main(sys.argv[1])
