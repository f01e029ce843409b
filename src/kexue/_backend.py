"""Choice of the Keras backend, made before anything imports Keras."""

import json
import os
import sys
from pathlib import Path

# What Keras writes into its configuration file by itself when it is first imported.
_WRITTEN_BY_KERAS = "tensorflow"


def choose_backend() -> None:
    """Set ``KERAS_BACKEND=jax`` unless the user has already decided otherwise.

    A decision is any of: the environment variable, an imported Keras, or a Keras configuration file that names
    another backend than TensorFlow. One that names TensorFlow tells nothing: Keras writes it at its first import,
    whatever backend is in use. Who wants TensorFlow sets the environment variable.
    """
    if "KERAS_BACKEND" in os.environ or "keras" in sys.modules:
        return
    home = Path(os.environ.get("KERAS_HOME", Path("~/.keras").expanduser()))
    try:
        backend = json.loads((home / "keras.json").read_text(encoding="utf-8")).get("backend")
    except (OSError, ValueError, AttributeError):
        backend = None
    if backend in (None, _WRITTEN_BY_KERAS):
        os.environ["KERAS_BACKEND"] = "jax"
