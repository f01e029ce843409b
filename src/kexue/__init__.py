"""kexue (科学): the methods of 科学空间 (kexue.fm) as a library.

Importing the package is cheap: rooms that need Keras load it on first use. ``KERAS_BACKEND`` decides the
backend; when it is unset, no Keras configuration file exists and Keras has not been imported yet, kexue picks JAX.
"""

from kexue._backend import choose_backend as _choose_backend

__version__ = "0.1.0"

_choose_backend()
