"""Copies of models with variables of their own."""

from typing import Any

import keras
from keras.src.saving.serialization_lib import ObjectSharingScope

from kexue.errors import ConfigError
from kexue.models.surgery.graph import has_graph

__all__ = ["clone"]


def clone(model: keras.Model, *, copy_weights: bool = False, name_suffix: str = "") -> keras.Model:
    """The same architecture with fresh variables.

    Unlike `keras.models.clone_model` it keeps what layers share (a tied output layer is tied to the copy's embedding),
    optional inputs and the class of the model.

    Args:
        model: any model with a configuration, built; its functional parts are copied as well.
        copy_weights: give the copy the values of all weights; fresh initial values otherwise. States of random
            generators are never copied.
        name_suffix: of the copy's name, and of the names of its layers where it is put together from layers (a
            `Transformer` names its layers itself). Names of inputs stay.

    Returns:
        A model of the same class, not compiled.

    Raises:
        ConfigError: the weights of the copy are others, because a configuration does not tell everything.
    """
    with ObjectSharingScope():
        config = keras.saving.serialize_keras_object(model)
    config = {key: value for key, value in config.items() if key != "compile_config"}
    if name_suffix:
        _rename(config, name_suffix, model)
    with ObjectSharingScope():
        # Objects of this very process: what a lambda does is known already.
        copy = keras.saving.deserialize_keras_object(
            config, custom_objects={type(model).__name__: type(model)}, safe_mode=False
        )
    if copy_weights:
        ours, theirs = model.weights, copy.weights
        if [w.shape for w in ours] != [w.shape for w in theirs]:
            raise ConfigError(
                f"the copy of {model.name} has {len(theirs)} weights of other shapes or number than the {len(ours)} of "
                "the model: it was changed after it was built, or a layer's get_config does not tell all."
            )
        for source, target in zip(ours, theirs, strict=True):
            target.assign(source)
    return copy


def _rename(config: dict[str, Any], suffix: str, model: Any) -> None:
    """Add the suffix to the names of a model and of its layers, in all places of a serialized model."""
    inner = config["config"]
    inner["name"] = inner.get("name", model.name) + suffix
    if not has_graph(model) or "layers" not in inner:
        return
    layers = {layer["config"].get("name"): layer for layer in inner["layers"]}
    inputs = {name for name, layer in layers.items() if layer["class_name"] == "InputLayer"}
    for operation in model.layers:
        layer = layers.get(operation.name)
        if layer is not None and operation.name not in inputs:
            _rename(layer, suffix, operation)
    for layer in inner["layers"]:
        if "name" in layer and layer["name"] not in inputs:
            layer["name"] += suffix
            layer["config"]["name"] = layer["name"]
        _rename_history(layer.get("inbound_nodes"), suffix, inputs)
    for key in ("input_layers", "output_layers"):
        if key in inner:
            _rename_leaves(inner[key], suffix, inputs)


def _rename_history(value: Any, suffix: str, inputs: set[str]) -> None:
    if isinstance(value, dict):
        history = value.get("keras_history")
        if history and history[0] not in inputs:
            history[0] += suffix
        value = list(value.values())
    if isinstance(value, list | tuple):
        for inner in value:
            _rename_history(inner, suffix, inputs)


def _rename_leaves(value: Any, suffix: str, inputs: set[str]) -> None:
    if isinstance(value, list) and len(value) == 3 and isinstance(value[0], str):
        value[0] += "" if value[0] in inputs else suffix
        return
    for inner in value.values() if isinstance(value, dict) else value:
        _rename_leaves(inner, suffix, inputs)
