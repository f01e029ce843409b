"""Shared set-up of all tests."""

import kexue  # noqa: F401  chooses the Keras backend before a test imports Keras
