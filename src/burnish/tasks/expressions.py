"""The value of an arithmetic expression, without `eval`: whole numbers, + - * /, brackets and a leading minus; exact fractions."""

from __future__ import annotations

import re
from fractions import Fraction

TOKEN = re.compile(r"\s*([0-9]+|[-+*/()])")
MOST_TOKENS = 100
MOST_DIGITS = 18


class BadExpression(ValueError):
    """The text is no expression, or has no value."""


def tokens_of(text: str) -> list[str]:
    """Numbers, operators and brackets. Raises BadExpression for anything else, or for too long a text."""
    out: list[str] = []
    at = 0
    text = text.rstrip()
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None or len(out) >= MOST_TOKENS or len(match.group(1)) > MOST_DIGITS:
            raise BadExpression(f"not an expression at character {at}")
        out.append(match.group(1))
        at = match.end()
    return out


def evaluate(text: str) -> tuple[Fraction, list[int]]:
    """The value and the numbers used, in order. Raises BadExpression."""
    parser = _Parser(tokens_of(text))
    value = parser.sum()
    if parser.at != len(parser.tokens):
        raise BadExpression("text after the end of the expression")
    return value, parser.numbers


class _Parser:
    """Recursive descent: sum -> product -> atom."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.at = 0
        self.numbers: list[int] = []

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def sum(self) -> Fraction:
        value = self.product()
        while self.peek() in ("+", "-"):
            value = value + self.product() if self.take() == "+" else value - self.product()
        return value

    def product(self) -> Fraction:
        value = self.atom()
        while self.peek() in ("*", "/"):
            if self.take() == "*":
                value *= self.atom()
                continue
            divisor = self.atom()
            if divisor == 0:
                raise BadExpression("division by zero")
            value /= divisor
        return value

    def atom(self) -> Fraction:
        token = self.take()
        if token == "-":
            return -self.atom()
        if token == "(":
            value = self.sum()
            if self.take() != ")":
                raise BadExpression("a bracket is not closed")
            return value
        if not token.isdigit():
            raise BadExpression(f"a number was expected, not {token or 'the end'!r}")
        self.numbers.append(int(token))
        return Fraction(int(token))
