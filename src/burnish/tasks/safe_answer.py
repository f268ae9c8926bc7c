"""Which answers may meet a scorer that evaluates them.

Some scorers of reasoning-gym hand the answer to Python's `eval`, or to sympy's `parse_expr`, which is `eval` too. Model output is
untrusted, so only what cannot do harm is let through: plain literals, and arithmetic with named functions and bounded powers.
"""

from __future__ import annotations

import ast

LONGEST = 4000
NODES = 400
DIGITS = 2000
FUNCTIONS = frozenset(["sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "exp", "log", "ln", "sqrt", "Abs"])
NAMES = frozenset({"pi", "E", *"abcdefghijklmnopqrstuvwxyz", *"ABCDFGHJKLMPTUVWXYZ"})


def is_literal(text: str) -> bool:
    """True for a Python literal: numbers, strings, lists, tuples, dicts, sets of them. `eval` of such a text runs nothing."""
    if len(text) > LONGEST:
        return False
    try:
        ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def is_arithmetic(text: str) -> bool:
    """True for a formula of numbers, one-letter names, + - * / ** and common functions, whose numbers stay under about 2000 digits."""
    if len(text) > LONGEST:
        return False
    try:
        tree = ast.parse(text.strip(), mode="eval")
        if sum(1 for _ in ast.walk(tree)) > NODES:
            return False
        return digits_of(tree.body) <= DIGITS
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False


def digits_of(node: ast.expr) -> float:
    """A bound on the digits of the numbers in a formula. Raises ValueError for anything that is no plain arithmetic."""
    match node:
        case ast.Constant(value=bool()):
            raise ValueError("a truth value")
        case ast.Constant(value=int() as value):
            return len(str(abs(value)))
        case ast.Constant(value=float()):
            return 20
        case ast.Name(id=name) if name in NAMES:
            return 1
        case ast.UnaryOp(op=ast.UAdd() | ast.USub(), operand=operand):
            return digits_of(operand)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div(), right=right):
            return digits_of(left) + digits_of(right)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return digits_of(left) * max(1.0, _exponent(right)) + digits_of(right)
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in FUNCTIONS:
            return digits_of(argument) + 1
    raise ValueError(f"{type(node).__name__} is no plain arithmetic")


def _exponent(node: ast.expr) -> float:
    """The size of an exponent: a number as it stands; any other formula by its digits, unless it holds large numbers."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return abs(float(value))
        case ast.UnaryOp(operand=operand):
            return _exponent(operand)
        case ast.Name():
            return 1.0
    bound = digits_of(node)
    if bound > 6:
        raise ValueError("an exponent too large")
    return 10.0**bound
