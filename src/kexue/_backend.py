"""Choice of the Keras backend, made before anything imports Keras."""

import os
import sys
from pathlib import Path


def choose_backend() -> None:
    """Set ``KERAS_BACKEND=jax`` unless the user has already decided otherwise.

    A decision is any of: the environment variable, an imported Keras, or a Keras configuration file.
    """
    if "KERAS_BACKEND" in os.environ or "keras" in sys.modules:
        return
    home = Path(os.environ.get("KERAS_HOME", Path("~/.keras").expanduser()))
    if (home / "keras.json").exists():
        return
    os.environ["KERAS_BACKEND"] = "jax"
