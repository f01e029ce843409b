"""Training of a recogniser: Keras ``fit`` with its data, rates, validation, best weights and resumption."""

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import keras

from kexue.errors import DataError
from kexue.nn.heads import CRF
from kexue.nn.metrics import span_scores
from kexue.tasks._checks import check_numbers, check_training
from kexue.tasks._recognise import recognise
from kexue.tasks._rows import Batches, Row, digest, training_rows
from kexue.tasks._windows import Document, align, check_examples
from kexue.text import DataWarning
from kexue.training.best import BestWeights
from kexue.training.optimizers import AdamW, layer_decay_rules
from kexue.training.resume import Resume
from kexue.training.running import run
from kexue.training.schedules import WarmupLinear
from kexue.training.seeding import seeded_training
from kexue.training.steady import SteadyRandom
from kexue.training.strategies import Strategy, with_strategy
from kexue.training.weight_average import WeightAverage

__all__ = ["Training"]

_CHAIN = r"(^|/)head/(transitions|start|end)$"
_HEAD = r"(^|/)head/"


class Training:
    """The half of `kexue.tasks.NER` that trains."""

    best_epoch: int | None = None
    """Epoch, from 0, whose weights the latest `fit` with validation kept."""

    def fit(
        self: Any,
        train: Iterable[Mapping[str, Any]],
        valid: Iterable[Mapping[str, Any]] | None = None,
        *,
        epochs: int = 10,
        batch_size: int = 16,
        learning_rate: float = 2e-5,
        head_learning_rate: float | None = None,
        transition_learning_rate: float | None = None,
        layer_decay: float = 1.0,
        weight_decay: float = 0.01,
        warmup: int | float = 0.1,
        clip: float | None = 1.0,
        seed: int = 0,
        resume: str | os.PathLike[str] | None = None,
        save_every: int | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        verbose: int | str = "auto",
        negative_share: float | None = None,
        steps_per_epoch: int | None = None,
        gradient_accumulation: int = 1,
        jit_compile: bool | str = "auto",
        strategy: Strategy | None = None,
    ) -> keras.callbacks.History:
        """Train on labelled texts.

        AdamW (no decay of biases and gains) with a linear rise and fall of the rates. With ``valid`` its precision,
        recall and F1 are in the logs of every epoch (``val_f1``), and the weights of the best epoch stay.

        Args:
            train: examples ``{"text": str, "entities": [{"start", "end", "label"}]}``, also without any entity. With
                a ``condition_size`` each has ``"condition": [float, ...]`` as well.
            valid: examples to choose the best epoch by.
            epochs: how often to go over the data.
            batch_size: windows in a batch.
            learning_rate: highest rate of the encoder's top block.
            head_learning_rate: of the head; default ten times the encoder's, up to 1e-3, and never below it.
            transition_learning_rate: of a CRF's transitions; default a thousand times the encoder's, up to 1e-2, and
                never below the head's.
            layer_decay: factor of the rate from each block to the one below.
            weight_decay: of matrices.
            warmup: share of the steps of the optimizer, or a number of them.
            clip: greatest norm of all gradients together; None: any.
            seed: of the order of the data and of dropout. The same call on equal weights gives equal results.
            resume: folder for the state of the training. A call that was killed goes on where it was when it is
                made again; one that was done returns its result at once.
            save_every: also save the state every so many steps.
            callbacks: of Keras; they see ``val_f1`` and may stop the training. With ``EMA``, ``SWA`` or ``LAWA`` of
                `kexue.training` among them, validation and the best epoch are those of the averages. ``resume``
                brings back the memory of those that are `kexue.training.Stateful`.
            verbose: as in Keras.
            negative_share: greatest share of windows without entities in an epoch; others are drawn for each.
            steps_per_epoch: default once over the data.
            gradient_accumulation: batches to a step of the optimizer.
            jit_compile: as in Keras ``compile``.
            strategy: adversarial or consistency training, such as ``kexue.training.FGM()``. (A pointer head's outputs
                are ``kind="sigmoid"`` to `RDrop` and `VAT`.)

        Returns:
            The History of Keras over all epochs, resumed ones included.

        Raises:
            DataError: no or broken examples, or an unknown label; the message names the example.
            ConfigError: arguments that cannot work, or a ``resume`` folder of another job.
        """
        check_numbers(gradient_accumulation=gradient_accumulation)
        check_training(
            epochs=epochs,
            batch_size=batch_size,
            steps_per_epoch=steps_per_epoch,
            save_every=save_every,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            clip=clip,
            head_learning_rate=head_learning_rate,
            transition_learning_rate=transition_learning_rate,
        )
        rows = _rows(self, train)
        judge = None if valid is None else _Validation(self, valid, batch_size)
        # The scan of Keras on TensorFlow needs a length known beforehand, and its gradient is beyond XLA.
        scans = keras.backend.backend() == "tensorflow" and isinstance(self._head.layer, CRF)
        batches = Batches(
            rows,
            self._head,
            batch_size=batch_size,
            max_length=self.max_length,
            pad_id=self.tokenizer.pad_id,
            seed=seed,
            steps=steps_per_epoch,
            negative_share=negative_share,
            one_length=scans,
        )
        head_rate = _default(head_learning_rate, max(learning_rate, min(10 * learning_rate, 1e-3)))
        chain_rate = _default(transition_learning_rate, max(head_rate, min(1000 * learning_rate, 1e-2)))
        optimizer = AdamW(
            WarmupLinear(learning_rate, max(1, batches.steps * epochs // gradient_accumulation), warmup),
            rate_rules=[
                (_CHAIN, chain_rate / learning_rate),
                (_HEAD, head_rate / learning_rate),
                *layer_decay_rules(self.encoder.config.num_layers, layer_decay),
            ],
            weight_decay=weight_decay,
            decay_rules=[(_CHAIN, False)],
            global_clipnorm=clip,
            gradient_accumulation_steps=gradient_accumulation if gradient_accumulation > 1 else None,
        )
        model = with_strategy(self.model, strategy)
        model.compile(optimizer=optimizer, loss=self._head.loss(), jit_compile=False if scans else jit_compile)
        best = BestWeights("val_f1") if judge is not None else None
        state = None
        # Averages stand in the model before it is judged at the end of an epoch.
        early = [callback for callback in callbacks if isinstance(callback, WeightAverage)]
        own = [callback for callback in (SteadyRandom(), *early, judge, best) if callback is not None]
        every = [*own, *(callback for callback in callbacks if callback not in early)]
        if resume is not None:
            state = Resume(
                resume,
                job={
                    "head": self.head,
                    "labels": list(self.labels),
                    "model": self.encoder.config.to_dict(),
                    "train": digest(rows),
                    "valid": None if judge is None else judge.digest,
                    "epochs": epochs,
                    "batch_size": batch_size,
                    "learning_rates": [learning_rate, head_rate, chain_rate, layer_decay],
                    "weight_decay": weight_decay,
                    "warmup": warmup,
                    "clip": clip,
                    "seed": seed,
                    "negative_share": negative_share,
                    "steps_per_epoch": batches.steps,
                    "gradient_accumulation": gradient_accumulation,
                    "strategy": None if strategy is None else repr(strategy),
                },
                save_every=save_every,
                callbacks=every,
            )
        with seeded_training(model, seed):
            history = run(model, batches, epochs=epochs, callbacks=every, state=state, verbose=verbose)
        self.best_epoch = None
        if best is not None:
            best.restore(model)
            self.best_epoch = best.epoch
        return history


class _Validation(keras.callbacks.Callback):
    """Adds the scores on held-out texts to the logs; the texts are encoded once."""

    def __init__(self, ner: Any, data: Iterable[Mapping[str, Any]], batch_size: int) -> None:
        super().__init__()
        examples = check_examples(data, ner.labels, "valid", ner.condition_size)
        if not examples:
            raise DataError("valid holds no examples; leave it out (None) to train without validation.")
        self.ner = ner
        self.gold = [example.entities for example in examples]
        conditions = [example.condition for example in examples]
        self.documents: list[Document] = ner._documents([example.text for example in examples], conditions)
        self.options = ner._run_options(max(32, batch_size))
        total = sha256(repr([example[:2] for example in examples]).encode("utf-8", "surrogatepass"))
        for condition in conditions:
            total.update(b"" if condition is None else condition.tobytes())
        self.digest = total.hexdigest()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Predict and compare."""
        ner = self.ner
        if keras.backend.backend() == "jax":
            ner.model.jax_state_sync()
        predicted = recognise(
            ner._forward,
            ner._head,
            self.documents,
            threshold=ner._limits(ner.threshold),
            flat=ner.flat,
            verbose=0,
            **self.options,
        )
        scores = span_scores(predicted, self.gold, ner.labels)
        if logs is not None:
            logs.update(val_precision=scores.precision, val_recall=scores.recall, val_f1=scores.f1)


def _rows(ner: Any, train: Any) -> list[Row]:
    """Windows to train on, with one warning for each kind of entity that cannot be learnt as it is."""
    examples = check_examples(train, ner.labels, "train", ner.condition_size)
    if not examples:
        raise DataError("train holds no examples.")
    counts: Counter[str] = Counter()
    types = {label: i for i, label in enumerate(ner.labels)}
    documents = ner._documents([example.text for example in examples], [example.condition for example in examples])
    spans = [
        ner._head.representable(align(document, example.entities, types, counts), counts)
        for document, example in zip(documents, examples, strict=True)
    ]
    rows = training_rows(documents, spans, counts)
    if not rows:
        raise DataError("train holds no text: all examples are empty or white space.")
    total = sum(len(example.entities) for example in examples)
    reasons = {
        "misaligned": "begin or end inside a token or at characters that no token stands for; they cannot be found",
        "nested": f"overlap a longer one, which head={ner.head!r} cannot express; left out",
        "long": f"are longer than a window (max_length={ner.max_length}); left out",
    }
    for kind, reason in reasons.items():
        if counts[kind]:
            warnings.warn(f"{counts[kind]} of {total} training entities {reason}.", DataWarning, stacklevel=3)
    return rows


def _default(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
