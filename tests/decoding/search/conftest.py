"""Fixtures of this folder."""

from tests.quick import quick_compilation  # noqa: F401  for every test here
