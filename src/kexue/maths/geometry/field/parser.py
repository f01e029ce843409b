"""Reading formulas: a tokenizer and a precedence parser of our own; nothing is ever evaluated as code.

``^`` and ``**`` are powers, ``2M``, ``2 M`` and ``)(`` are products, ``sin^2(x)`` and ``a^2(t)`` with a coordinate t
powers of functions, ``f'(r)``, ``diff(f(t, r), t, r)`` and
``Derivative(f(t, r), (t, 2))`` derivatives of unknown functions, superscripts and Greek letters are understood. The
result is a SymPy expression.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

from kexue.errors import DataError

__all__ = ["FUNCTIONS", "parse", "plain_name", "spell"]

_FUNCTION_NAMES = (
    "sqrt cbrt exp log ln sin cos tan cot sec csc sinh cosh tanh coth sech csch asin acos atan asinh acosh atanh "
    "acot acoth LambertW erf erfc erfi gamma loggamma digamma polygamma lowergamma uppergamma expint airyai airybi "
    "airyaiprime airybiprime elliptic_k elliptic_e besselj bessely besseli besselk abs sign atan2 diff Derivative"
)
_OTHER_NAMES = {"ln": "log", "abs": "Abs", "cosec": "csc"} | {
    prefix + name: "a" + name
    for prefix, names in (("arc", "sin cos tan cot sinh cosh tanh coth"), ("ar", "sinh cosh tanh coth"))
    for name in names.split()
}
_OF_TWO = ("polygamma", "lowergamma", "uppergamma", "expint", "atan2")
FUNCTIONS = [*_FUNCTION_NAMES.split(), *_OTHER_NAMES, *_OTHER_NAMES.values(), "log10", "log2"]
_LETTERS = "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩϕϑϵ"
_LETTER_NAMES = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi "
    "omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega phi theta epsilon"
)
_GREEK = dict(zip(_LETTERS, _LETTER_NAMES.split(), strict=True))
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\d.]))|(?P<name>[A-Za-z_]\w*)(?P<primes>'*)"
    r"|(?P<power>\*\*|\^)|(?P<op>[-+*/(),]))"
)
_LONGEST = 100_000
_DEEPEST = 60


def spell(text: str) -> str:
    """Greek letters by name, superscripts as powers, typographic signs as plain ones."""
    text = text.replace("−", "-").replace("–", "-").replace("·", "*").replace("×", "*").replace("′", "'")
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda m: "^(" + m.group().translate(_SUPERSCRIPTS) + ")", text)
    return "".join(_GREEK.get(c, c) for c in text)


def plain_name(name: str) -> str | None:
    """The name in plain letters, or None where it cannot be one."""
    name = spell(name.strip())
    return name if re.fullmatch(r"[A-Za-z_]\w*", name) else None


def parse(text: str, symbols: Collection[str] = (), called: Callable[[str], bool] | None = None) -> Any:
    """A formula as a SymPy expression.

    Args:
        text: the formula.
        symbols: names that are coordinates or parameters: called like a function they are an error.
        called: whether an unknown name may be called as a function; None allows all.

    Raises:
        DataError: it cannot be read; the message shows where.
    """
    if len(text) > _LONGEST:
        raise DataError(f"A formula of at most {_LONGEST} characters was expected, received {len(text)}.")
    return _Parser(spell(text), frozenset(symbols), called).whole()


class _Parser:
    def __init__(self, text: str, symbols: frozenset[str], called: Callable[[str], bool] | None) -> None:
        self.text = text
        self.symbols = symbols
        self.called = called
        self.depth = 0
        self.tokens: list[tuple[str, str, int]] = []  # kind, text, position
        at = 0
        while at < len(text):
            if text[at:].isspace():
                break
            match = _TOKEN.match(text, at)
            if match is None:
                start = at + len(text[at:]) - len(text[at:].lstrip())
                raise self._error("a character that does not belong in a formula", start)
            kind = match.lastgroup if match.lastgroup != "primes" else "name"
            assert kind is not None
            self.tokens.append((kind, match.group(kind) + (match.group("primes") or ""), match.start(kind)))
            at = match.end()
        self.tokens.append(("end", "", len(text)))
        self.at = 0

    def _error(self, problem: str, position: int) -> DataError:
        start = max(0, position - 20)
        shown = self.text[start:position] + "»" + self.text[position : position + 20]
        return DataError(f"The formula cannot be read: {problem} at {shown!r}.")

    def _peek(self, *texts: str) -> bool:
        return self.tokens[self.at][1] in texts and self.tokens[self.at][0] in ("op", "power")

    def _next(self) -> tuple[str, str, int]:
        token = self.tokens[self.at]
        self.at += 1
        return token

    def _expect(self, text: str) -> None:
        if not self._peek(text):
            raise self._error(f"{text!r} is missing", self.tokens[self.at][2])
        self.at += 1

    def whole(self) -> Any:
        value = self._sum()
        if self.tokens[self.at][0] != "end":
            raise self._error("something is left over", self.tokens[self.at][2])
        return value

    def _sum(self) -> Any:
        import sympy

        self.depth += 1
        if self.depth > _DEEPEST:
            raise self._error(f"more than {_DEEPEST} levels of brackets", self.tokens[self.at][2])
        terms = []
        negative = self._signs()
        while True:
            term = self._product()
            terms.append(-term if negative else term)
            if not self._peek("+", "-"):
                break
            negative = self._signs()
        self.depth -= 1
        return sympy.Add(*terms)

    def _signs(self) -> bool:
        negative = False
        while self._peek("+", "-"):
            negative ^= self._next()[1] == "-"
        return negative

    def _product(self) -> Any:
        value = self._power()
        while True:
            if self._peek("*", "/"):
                _, sign, position = self._next()
                negative = self._signs()
                factor = self._power()
                if sign == "/" and factor == 0:
                    raise self._error("a division by zero", position)
                value = value * factor if sign == "*" else value / factor
                value = -value if negative else value
            elif self.tokens[self.at][0] in ("number", "name") or self._peek("("):
                value = value * self._power()
            else:
                return value

    def _power(self) -> Any:
        base = self._atom()
        if self.tokens[self.at][0] != "power":
            return base
        position = self._next()[2]
        negative = self._signs()
        exponent = self._power()
        exponent = -exponent if negative else exponent
        if exponent.is_number and abs(exponent) > 1000:
            raise self._error("an exponent above 1000", position)
        if base == 0 and exponent.is_number and exponent <= 0:
            raise self._error("a power of zero that is not defined", position)
        return base**exponent

    def _atom(self) -> Any:
        import sympy

        kind, text, position = self._next()
        if kind == "number":
            if len(text) > 200 or abs(int([*re.split("[eE]", text), "0"][1])) > 300:
                raise self._error("a number too long", position)
            return sympy.Rational(text)
        if kind == "op" and text == "(":
            value = self._sum()
            self._expect(")")
            return value
        if kind != "name":
            raise self._error("an operand is missing" if kind != "end" else "the formula ends early", position)
        name, primes = text.rstrip("'"), text.count("'")
        if self._peek("("):
            return self._call(name, primes, position)
        if primes:
            raise self._error(f"{text} needs its argument in brackets", position)
        if name in ("I", "pi") and name not in self.symbols:
            return {"I": sympy.I, "pi": sympy.pi}[name]
        if name in FUNCTIONS and name not in self.symbols and name not in ("gamma", "diff", "Derivative"):
            exponent = self._power_of_function()
            if exponent:
                return self._call(name, 0, position) ** exponent
            raise self._error(f"{name} needs its argument in brackets", position)
        if self._arguments_follow():  # a^2(t), where a**2*t would be written a^2*t
            exponent = self._power_of_function()
            return self._call(name, 0, position) ** exponent
        return sympy.Symbol(name)

    def _power_of_function(self, skip: bool = True) -> int:
        """n of ``^n(`` or ``^(n)(`` that follow a name, as in sin^2(theta) or sin²(theta); 0 where they do not."""
        following = [text for _, text, _ in self.tokens[self.at : self.at + 5]]
        if following[0] not in ("^", "**"):
            return 0
        plain, bracketed = following[1:2], following[1:4]
        if following[2:3] == ["("] and plain[0].isdigit():
            number, length = plain[0], 2
        elif following[4:5] == ["("] and bracketed[0] == "(" and bracketed[2] == ")" and bracketed[1].isdigit():
            number, length = bracketed[1], 4
        else:
            return 0
        self.at += length if skip else 0
        return int(number)

    def _arguments_follow(self) -> bool:
        """Whether ``^n(t)`` or ``^n(t, r)`` follow, with names of coordinates or parameters and no differentials."""
        if not self._power_of_function(skip=False):
            return False
        kinds = self.tokens[self.at + (2 if self.tokens[self.at + 1][0] == "number" else 4) :]
        for k in range(1, len(kinds), 2):
            (kind, text, _), after = kinds[k], kinds[k + 1][1] if k + 1 < len(kinds) else ""
            differential = text[:1] == "d" and text[1:] in self.symbols
            if kind != "name" or text not in self.symbols or differential or after not in (",", ")"):
                return False
            if after == ")":
                return True
        return False

    def _call(self, name: str, primes: int, position: int) -> Any:
        import sympy

        self._next()
        arguments = [self._sum()]
        while self._peek(","):
            self._next()
            arguments += self._order() if name in ("diff", "Derivative") else [self._sum()]
        self._expect(")")
        if name in self.symbols:
            raise self._error(f"{name} is no function; write {name}*(...) for a product", position)
        if name in FUNCTIONS and not primes:
            return self._known(name, arguments, position)
        if self.called is not None and not self.called(name):
            raise self._error(f"{name} is not a declared function", position)
        function = sympy.Function(name)
        if not primes:
            return function(*arguments)
        if len(arguments) != 1:
            raise self._error("primes belong to functions of one argument; use diff(f(x, y), x)", position)
        if isinstance(arguments[0], sympy.Symbol):
            return sympy.Derivative(function(arguments[0]), (arguments[0], primes))
        inner = sympy.Symbol("_xi")
        return sympy.Subs(sympy.Derivative(function(inner), (inner, primes)), inner, arguments[0])

    def _order(self) -> list[Any]:
        """An argument of diff: an expression, or "(x, 2)" as results are printed."""
        import sympy

        kinds = [(kind, text) for kind, text, _ in self.tokens[self.at : self.at + 5]]
        shape = [kind if kind in ("name", "number") else text for kind, text in kinds]
        if shape != ["(", "name", ",", "number", ")"] or not kinds[3][1].isdigit():
            return [self._sum()]
        self.at += 5
        return [sympy.Symbol(kinds[1][1]), sympy.Integer(kinds[3][1])]

    def _known(self, name: str, arguments: list[Any], position: int) -> Any:
        import sympy

        if name in ("diff", "Derivative"):
            variables: list[Any] = []
            for argument in arguments[1:]:
                if argument.is_Integer and variables and 0 < argument < 20:
                    variables[-1] = (variables[-1], int(argument))
                elif isinstance(argument, sympy.Symbol):
                    variables.append(argument)
                else:
                    raise self._error("diff takes an expression and then names, each with its order", position)
            if not variables:
                raise self._error("diff needs the name to differentiate by", position)
            return sympy.Derivative(arguments[0], *variables)
        wanted = 2 if name.startswith("bessel") or name in _OF_TWO else 1
        if len(arguments) != wanted:
            known = f"{name} takes {wanted} argument{'s' * (wanted > 1)}, received {len(arguments)}"
            raise self._error(f"{known} (an unknown function needs another name)", position)
        name = _OTHER_NAMES.get(name, name)
        if name in ("log10", "log2"):
            return sympy.log(arguments[0]) / sympy.log(int(name[3:]))
        if name == "sqrt":
            return sympy.sqrt(arguments[0])
        if name == "cbrt":
            return sympy.cbrt(arguments[0])
        value = getattr(sympy, name)(*arguments)
        if value.has(sympy.zoo, sympy.nan, sympy.oo):
            raise self._error(f"{name} has no finite value here", position)
        return value
