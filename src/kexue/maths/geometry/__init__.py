"""Exact curvature: metrics, moving frames, differential forms and tensors on a differential field.

::

    from kexue.maths.geometry import Metric

    g = Metric.from_line_element("-(1-2*M/r)*dt^2 + dr^2/(1-2*M/r) + r^2*(dtheta^2 + sin(theta)^2*dphi^2)")
    g.ricci().is_zero       # True
    g.kretschmann()         # 48*M**2/r**6
    print(g.riemann())      # the non-zero independent components

Articles 4051-4076 (exterior calculus, Cartan's structure equations) and 3963-4046 (Riemannian geometry) of kexue.fm.
Needs SymPy; python-flint makes it about ten times faster (``pip install kexue[geometry]``).
"""

from kexue.maths.geometry import catalogue
from kexue.maths.geometry.calculus import lie_bracket, lie_derivative
from kexue.maths.geometry.connection import Connection, LeviCivita
from kexue.maths.geometry.conventions import Conventions
from kexue.maths.geometry.field import Element, Field, OpaqueFunction, register, using_backend
from kexue.maths.geometry.forms import Form, basis_forms, form_from_string, zero_form
from kexue.maths.geometry.frames import Frame
from kexue.maths.geometry.killing import killing_dimension, killing_vectors
from kexue.maths.geometry.metric import Metric
from kexue.maths.geometry.sources import einstein_maxwell, perfect_fluid
from kexue.maths.geometry.tensors import Tensor

__all__ = [
    "Connection",
    "Conventions",
    "Element",
    "Field",
    "Form",
    "Frame",
    "LeviCivita",
    "Metric",
    "OpaqueFunction",
    "Tensor",
    "basis_forms",
    "catalogue",
    "einstein_maxwell",
    "form_from_string",
    "killing_dimension",
    "killing_vectors",
    "lie_bracket",
    "lie_derivative",
    "perfect_fluid",
    "register",
    "using_backend",
    "zero_form",
]
