"""The differential field: exact scalars with a canonical form, an exact zero test and a derivation.

::

    field = Field("t r theta phi")
    f = field("1 - 2*M/r")
    f.diff("r")                      # 2*M/r**2
    field("sin(theta)^2 + cos(theta)^2") == 1
"""

from kexue.maths.geometry.field.element import Element
from kexue.maths.geometry.field.field import Field
from kexue.maths.geometry.field.functions import OpaqueFunction, register
from kexue.maths.geometry.field.rings import available_backends, default_backend, using_backend

__all__ = [
    "Element",
    "Field",
    "OpaqueFunction",
    "available_backends",
    "default_backend",
    "register",
    "using_backend",
]
