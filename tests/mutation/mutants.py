"""Small changes to the source of a module, each of which a test should notice."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Pow: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
_NAMES = {"min": "max", "minimum": "maximum", "any": "all", "floor": "ceil", "mean": "sum", "argmax": "argmin"}
_NAMES |= {new: old for old, new in _NAMES.items() if old != "mean"}


@dataclass(frozen=True)
class Mutant:
    """A module with one change.

    Attributes:
        function: The function or class that the change is in; "" for the module itself.
        line: The line of the change.
        before: The statement, or the condition of a compound one.
        after: The same with the change.
        tree: The whole module with the change.
    """

    function: str
    line: int
    before: str
    after: str
    tree: ast.Module

    def __str__(self) -> str:
        return f"{self.function or 'module'}: {self.before}  →  {self.after}"


def mutants(source: str) -> Iterator[Mutant]:
    """Yield all changes to a module. ``tree`` is valid until the next one is taken."""
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in list(ast.walk(tree)):
        if _is_left_out(node, parents):
            continue
        for new in _replacements(node, parents[node]):
            shown, function = _shown(node, parents), _function(node, parents)
            before = " ".join(ast.unparse(shown).split())
            ast.copy_location(new, node)
            _replace(parents[node], node, new)
            changed = new if shown is node else shown
            after = " ".join(ast.unparse(changed).split())
            yield Mutant(function, node.lineno, before, after, ast.fix_missing_locations(tree))
            _replace(parents[node], new, node)


def _replacements(node: ast.AST, parent: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Compare):
        for index, operator in enumerate(node.ops):
            for other in _COMPARISONS[type(operator)]:
                yield ast.Compare(node.left, [*node.ops[:index], other(), *node.ops[index + 1 :]], node.comparators)
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        yield ast.BinOp(node.left, _OPERATORS[type(node.op)](), node.right)
    elif isinstance(node, ast.AugAssign):
        yield ast.Pass()
        yield ast.Assign([node.target], node.value)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
        for index in range(len(node.values)):
            yield ast.BoolOp(node.op, node.values[:index] + node.values[index + 1 :])
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Constant):
        yield from map(ast.Constant, _other_values(node.value))
    elif isinstance(node, ast.Name | ast.Attribute):
        name = node.id if isinstance(node, ast.Name) else node.attr
        if name in _NAMES and isinstance(parent, ast.Call) and parent.func is node:
            new = _NAMES[name]
            yield (
                ast.Name(new, ast.Load()) if isinstance(node, ast.Name) else ast.Attribute(node.value, new, ast.Load())
            )
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield ast.Pass()
    if isinstance(parent, ast.If | ast.IfExp | ast.While) and node is parent.test:
        yield ast.Constant(value=True)
        yield ast.Constant(value=False)
    if isinstance(parent, ast.Return) and not (isinstance(node, ast.Constant) and node.value is None):
        yield ast.Constant(value=None)


def _other_values(value: object) -> Iterator[object]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + 1
    elif isinstance(value, float):
        yield value * 1.5 or 1.0


def _is_left_out(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether a change means nothing: in annotations, docstrings, decorators, messages, and type checks."""
    if not hasattr(node, "lineno"):
        return True
    child = node
    while (parent := parents.get(child)) is not None:
        if isinstance(parent, ast.JoinedStr | ast.Raise | ast.Import | ast.ImportFrom):
            return True
        if isinstance(parent, ast.Expr) and isinstance(child, ast.Constant):
            return True
        if isinstance(parent, ast.AnnAssign | ast.arg) and child is parent.annotation:
            return True
        if isinstance(parent, ast.FunctionDef) and child is parent.returns:
            return True
        if isinstance(parent, ast.FunctionDef | ast.ClassDef) and child in parent.decorator_list:
            return True
        child = parent
    return False


def _shown(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> ast.AST:
    """The simple statement around a node, or the part of a compound one."""
    while not isinstance(node, ast.stmt):
        parent = parents[node]
        if isinstance(parent, ast.stmt) and hasattr(parent, "body"):
            return node
        node = parent
    return node


def _function(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> str:
    names = []
    while (parent := parents.get(node)) is not None:
        if isinstance(parent, ast.FunctionDef | ast.ClassDef):
            names.append(parent.name)
        node = parent
    return ".".join(reversed(names))


def _replace(parent: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for name, value in ast.iter_fields(parent):
        if value is old:
            setattr(parent, name, new)
        elif isinstance(value, list):
            value[:] = [new if item is old else item for item in value]
