"""Names, labels and defaults of methods, read from their source.

Importing a method imports torch, which takes seconds. `lotus-ray list methods` needs no torch.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.resources import files

FOLDER = files("lotus_ray.unlearning") / "methods"  # does not import it


def read_methods() -> list[dict[str, str]]:
    """Return name, label and one line about each entry of METHODS, in its order.

    The line is the first of the docstring, with the hyper-parameters and their defaults.
    """
    classes = {node.name: node for node in _classes()}
    return [_item(classes[name], classes) for name in _registered()]


def _trees() -> Iterator[ast.Module]:
    for path in FOLDER.iterdir():
        if path.name.endswith(".py"):
            yield ast.parse(path.read_text(encoding="utf-8"))


def _classes() -> Iterator[ast.ClassDef]:
    for tree in _trees():
        yield from (node for node in tree.body if isinstance(node, ast.ClassDef))


def _registered() -> list[str]:
    """Return the class names in METHODS, in order."""
    registry = ast.parse(FOLDER.joinpath("__init__.py").read_text(encoding="utf-8"))
    for node in registry.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "METHODS":
            loops = [each for each in ast.walk(node) if isinstance(each, ast.comprehension)]
            return [ast.unparse(name) for name in ast.walk(loops[0].iter) if _is_name(name)]
    return []


def _is_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Name)


def _item(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> dict[str, str]:
    own = dict(_values(node))
    first_line = (ast.get_docstring(node) or "").splitlines()[0]
    defaults = _defaults(node, classes)
    return {
        "name": str(own["name"]),
        "label": str(own["label"]),
        "about": f"{first_line} " + ", ".join(f"{key}={value}" for key, value in defaults.items()),
    }


def _defaults(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> dict[str, object]:
    """Return hyper-parameters by name, those of base classes first."""
    inherited: dict[str, object] = {}
    for base in node.bases:
        if (parent := classes.get(ast.unparse(base))) is not None:
            inherited |= _defaults(parent, classes)
    return inherited | dict(_values(node, constants=False))


def _values(node: ast.ClassDef, constants: bool = True) -> Iterator[tuple[str, object]]:
    """Yield annotated names of a class: its ClassVars, or its dataclass fields."""
    for each in node.body:
        if not isinstance(each, ast.AnnAssign) or each.value is None:
            continue
        if ast.unparse(each.annotation).startswith("ClassVar") == constants:
            yield ast.unparse(each.target), _literal(each.value)


def _literal(node: ast.expr) -> object:
    """Return a value, or the default of a `field(default=…)`."""
    if isinstance(node, ast.Call):
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        node = given.get("default", node)
    try:
        return ast.literal_eval(node)
    except ValueError:
        return "METHOD"  # another method, as in SalUn
