"""Position encodings by the names that configurations use."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import keras

from kexue.errors import ConfigError
from kexue.nn.positions.base import PositionEncoding, Sizes

__all__ = ["KINDS", "check", "make", "serialize", "without_defaults"]

# Read when asked for, so that a model loads the encoding it has and no other.
KINDS: dict[str, str] = {
    "alibi": "alibi.AlibiPosition",
    "complex": "complex_order.ComplexOrderPosition",
    "conv": "conv.ConvolutionalPosition",
    "deberta": "deberta.DebertaPosition",
    "floater": "floater.FloaterPosition",
    "hierarchical": "learned.HierarchicalPosition",
    "learned": "learned.LearnedPosition",
    "multiplicative": "multiplicative.MultiplicativePosition",
    "recursive": "recursive.RecursivePosition",
    "rotary": "rotary.RotaryPosition",
    "rotary_generators": "rotary_generators.GeneratorRotaryPosition",
    "rotary_nd": "rotary_nd.RotaryNDPosition",
    "shaw": "shaw.ShawPosition",
    "sinusoidal": "sinusoidal.SinusoidalPosition",
    "t5": "t5.T5Position",
    "trainable_sinusoidal": "sinusoidal.TrainableSinusoidalPosition",
    "transformer_xl": "transformer_xl.TransformerXLPosition",
    "tupe": "tupe.TupePosition",
}


def _find(name: str) -> type[PositionEncoding]:
    module, kind = KINDS[name].rsplit(".", 1)
    return getattr(import_module(f"kexue.nn.positions.{module}"), kind)


def check(position: Any) -> None:
    """Raise unless ``position`` is ``"none"``, a known name or a serialized encoding."""
    if isinstance(position, Mapping):
        if "class_name" not in position:
            raise ConfigError(f"a position that is a mapping must be a serialized encoding. Received: {position!r}")
    elif position != "none" and position not in KINDS:
        raise ConfigError(
            f"position must be 'none', one of {', '.join(map(repr, sorted(KINDS)))}, or a PositionEncoding. "
            f"Received: {position!r}"
        )


def serialize(position: PositionEncoding) -> dict[str, Any]:
    """An encoding as plain data; the inverse of `make`."""
    return keras.saving.serialize_keras_object(position)


def make(position: Any, options: Mapping[str, Any], sizes: Sizes, **arguments: Any) -> PositionEncoding | None:
    """The encoding that ``position`` names, or None.

    Args:
        position: a name of `KINDS`, ``"none"``, or what `serialize` gave.
        options: arguments of the encoding beside those that ``sizes`` decides.
        sizes: of the model.
        **arguments: ``name``, ``dtype``; a serialized encoding keeps its name.

    Raises:
        ConfigError: an unknown name, or an option that the encoding does not have.
    """
    check(position)
    if position == "none":
        if options:
            raise ConfigError(f"position='none' has no options. Received: position_options={dict(options)!r}")
        return None
    if isinstance(position, Mapping):
        if options:
            raise ConfigError(f"an encoding that is an object has its options. Received: {dict(options)!r}")
        data = dict(position)
        if arguments.get("dtype") is not None:
            policy = keras.dtype_policies.get(arguments["dtype"])
            data["config"] = data.get("config", {}) | {"dtype": keras.saving.serialize_keras_object(policy)}
        try:
            return keras.saving.deserialize_keras_object(data)
        except (TypeError, ValueError, ImportError, AttributeError) as error:
            raise ConfigError(
                f"the position encoding {position.get('class_name')!r} cannot be rebuilt: {error}. Import the module "
                "that defines it first, and decorate it with keras.saving.register_keras_serializable()."
            ) from None
    kind = _find(position)
    known = set(inspect.signature(kind.__init__).parameters) - {"self", "args", "kwargs"}
    unknown = sorted(set(options) - known)
    if unknown:
        raise ConfigError(
            f"position={position!r} has no option {', '.join(map(repr, unknown))}. It has: {', '.join(sorted(known))}."
        )
    return kind.from_sizes(sizes, **options, **arguments)


def without_defaults(position: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """``options`` that differ from the encoding's defaults, so that equal encodings compare equal."""
    if not isinstance(position, str) or position not in KINDS:
        return dict(options)
    parameters = inspect.signature(_find(position).__init__).parameters
    return {n: v for n, v in options.items() if n not in parameters or parameters[n].default != v}
