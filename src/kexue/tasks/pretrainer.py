"""From a corpus to a checkpoint: masked, causal and prefix language models, their mixture in one network, ELECTRA."""

import json
import math
import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import keras

from kexue.errors import ConfigError, DataError
from kexue.files import folder_lock
from kexue.models import Transformer, TransformerConfig
from kexue.tasks._checks import check_numbers
from kexue.tasks.pretraining.batches import PretrainingBatches, parts
from kexue.tasks.pretraining.electra import ElectraModel, generator_config, with_shared_embeddings
from kexue.tasks.pretraining.logs import CsvLog, Speed
from kexue.tasks.pretraining.network import PretrainingModel
from kexue.tasks.pretraining.objectives import Electra, Objective, parse
from kexue.tasks.pretraining.setup import Source, check, copied, network, specials
from kexue.text import Tokenizer
from kexue.text.corpus import Shards, open_shards
from kexue.text.corpus.shards import vocabulary_hash
from kexue.training.averaging import EMA
from kexue.training.batch_size import NoiseScale
from kexue.training.distribution import Distribution
from kexue.training.feeding import feed
from kexue.training.optimizers import AdamW
from kexue.training.resume import Resume
from kexue.training.running import run
from kexue.training.schedules import WarmupLinear
from kexue.training.seeding import seeded_training
from kexue.training.steady import SteadyRandom
from kexue.training.swapping import accumulation_steps, chain

__all__ = ["Pretrainer"]


class Pretrainer:
    """Trains a `Transformer` on raw text.

    Rows are packed: each holds several pieces of documents, ``[CLS] text [SEP]``, that do not see each other. The
    objective decides the attention mask; a mixture is trained under the mask `Prefix`, where ``segment_ids`` say who
    sees whom: 0 for masked language modelling, 1 for a language model, 0 and 1 for source and target.

    Args:
        model: a configuration (random weights), a checkpoint folder (its weights), or a `Transformer` with an ``lm``
            head; for ELECTRA the discriminator, with a ``discriminator`` head.
        tokenizer: of the shards; that of the checkpoint folder by default.
        objective: ``"mlm"``, ``"clm"``, ``"unilm"``, ``"span"``, ``"electra"``, a mixture
            ``"mlm=0.5,clm=0.25,unilm=0.25"``, or an `Objective`.
        length: tokens of a row.
        generator: of ELECTRA, as ``model`` (with an ``lm`` head); by default that of the checkpoint folder, or one a
            quarter to a third as wide as the model (`kexue.tasks.pretraining.electra.generator_config`). It shares
            the model's embeddings where they are of the same size.
        dtype: Keras dtype policy, such as ``"mixed_bfloat16"``.
        seed: of initial weights.
        dropout: of all layers, attention too, while it is pretrained; None: the configuration's. The checkpoint
            keeps the configuration's either way, for what it is fine-tuned on.
        distribution: from `kexue.training.distribute`, called before.

    Attributes:
        model: the `Transformer`; with ELECTRA the discriminator.
        generator: of ELECTRA, with the model's embeddings; None otherwise.
        objective: the `Objective`.

    Raises:
        ConfigError: parts that do not fit each other.

    Source: kexue.fm articles 7055 (pretraining), 6933 (masks); arXiv 1810.04805, 1907.11692, 1905.03197,
    2003.10555 (ELECTRA).
    """

    def __init__(
        self,
        model: Source,
        tokenizer: Tokenizer | None = None,
        *,
        objective: str | Objective = "mlm",
        length: int = 128,
        generator: Source | None = None,
        dtype: Any = None,
        seed: int | None = 0,
        dropout: float | None = None,
        distribution: Distribution | None = None,
    ) -> None:
        self.objective, self.distribution = parse(objective), distribution or Distribution()
        if not isinstance(length, int) or length < 8:
            raise ConfigError(f"length must be an integer of at least 8. Received: length={length!r}")
        self.length = length
        if generator is not None and not isinstance(self.objective, Electra):
            raise ConfigError(f"only objective='electra' has a generator. Received: objective={objective!r}")
        if isinstance(model, str | os.PathLike):
            tokenizer = Tokenizer.from_pretrained(model) if tokenizer is None else tokenizer
            inner = Path(model) / "generator"
            generator = inner if generator is None and (inner / "config.json").is_file() else generator
        head = "discriminator" if isinstance(self.objective, Electra) else "lm"
        common: dict[str, Any] = {"mask": self.objective.mask, "dtype": dtype, "dropout": dropout}
        self.model, self._config = network(model, head=head, seed=seed, **common)
        if tokenizer is None:
            raise ConfigError("a tokenizer is needed unless model is a checkpoint folder that has one.")
        self.tokenizer = tokenizer
        check(self.model, tokenizer, length, head, self.objective.mask)
        self.specials = specials(tokenizer)
        self.generator: keras.Model | None = None
        self._generator_config: TransformerConfig | None = None
        self._names = tuple(part.name for part in parts(self.objective))
        if isinstance(self.objective, Electra):
            source = generator_config(self._config) if generator is None else generator
            seed = None if seed is None else seed + 1
            other, self._generator_config = network(source, head="lm", seed=seed, **common)
            check(other, tokenizer, length, "lm", self.objective.mask)
            self.generator = with_shared_embeddings(other, self.model)
            self._network: PretrainingModel = ElectraModel(
                self.model, self.generator, other.config, self.objective.weight
            )
        else:
            self._network = PretrainingModel(self.model, self._names)
        if self._config.num_segments == 1:  # RoBERTa; the masks that `check` leaves look at no segments
            self._network.facts = tuple(name for name in self._network.facts if name != "segment_ids")

    # ---------------------------------------------------------------- training

    def fit(
        self,
        shards: Shards | str | os.PathLike[str],
        *,
        steps: int,
        batch_size: int = 32,
        accumulation: int = 1,
        learning_rate: Any = 5e-4,
        warmup: int | float = 0.05,
        weight_decay: float = 0.01,
        clip: float | None = 1.0,
        optimizer: keras.optimizers.Optimizer | None = None,
        ema: float | None = None,
        noise_scale: bool = False,
        valid_every: int | None = None,
        valid_rows: int = 512,
        folder: str | os.PathLike[str] | None = None,
        save_every: int | None = None,
        log_every: int | None = 50,
        seed: int = 0,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        verbose: int | str = "auto",
        jit_compile: bool | str = "auto",
    ) -> keras.callbacks.History:
        """Train for ``steps`` updates of the optimizer.

        Batches, masks and dropout depend on ``seed`` and the number of the step only. With ``folder`` the state of
        the run (weights, optimizer, place in the data, random states) is saved there, and the same call in a new
        process goes on from it: on a CPU to the very weights of a run that was never stopped.

        Args:
            shards: from `kexue.text.corpus.build_shards`, or their folder.
            steps: updates.
            batch_size: rows of a batch.
            accumulation: batches to an update.
            learning_rate: the highest rate of a linear rise and fall, or a schedule over updates.
            warmup: share of the updates, or a number of them, in which the rate rises.
            weight_decay: of matrices.
            clip: greatest norm of all gradients together; None: any.
            optimizer: instead of AdamW with the four arguments above, such as `kexue.training.Lamb`; with
                ``accumulation`` it must have that many ``gradient_accumulation_steps``.
            ema: decay of an exponential moving average of the weights, which is validated and kept at the end.
            noise_scale: measure the gradient noise scale from the batches of each update (needs ``accumulation``);
                ``folder/noise.csv`` is then what ``kexue advise-lr`` reads.
            valid_every: updates between validations, which are also the epochs of the History; default a twentieth.
            valid_rows: held-out rows for each objective.
            folder: for state and ``log.csv``.
            save_every: updates between saved states beside those at validations.
            log_every: updates between lines of ``log.csv``.
            seed: see above.
            callbacks: of Keras. One with an attribute ``speed`` gets there the callback whose ``figures()`` are tokens
                and operations a second.
            verbose: as in Keras.
            jit_compile: as in Keras ``compile``.

        Returns:
            The History: ``loss``, ``accuracy``, ``val_loss`` ..., and with a mixture those of each objective
            (``mlm_loss`` ...), with ELECTRA those of both networks (``generator_loss``, ``discriminator_recall`` ...);
            ``tokens_per_second`` and ``flops_per_second``.

        Raises:
            ConfigError: arguments that cannot work, a ``folder`` of another run, or one that another process works in.
            DataError: shards of another vocabulary, or without tokens.
        """
        check_numbers(steps=steps, batch_size=batch_size, accumulation=accumulation, valid_rows=valid_rows)
        check_numbers(optional=True, valid_every=valid_every, save_every=save_every, log_every=log_every)
        if not isinstance(seed, int) or seed < 0:
            raise ConfigError(f"seed must be an integer of at least 0. Received: seed={seed!r}")
        self._check_batch(batch_size)
        shards = self._open(shards)
        interval = min(valid_every or max(steps // 20, 1), steps)
        epochs = math.ceil(steps / interval)
        micro = interval * accumulation
        accumulates = accumulation if accumulation > 1 else None
        if not any(len(shards.split(name)) for name in shards.names):
            raise DataError(f"{shards.folder} holds no documents to train on: build the shards with a smaller holdout.")
        batches = self._batches(shards, "train", batch_size, seed, micro, total=steps * accumulation)
        validation = self._validation(shards, batch_size, valid_rows)
        if optimizer is None:
            if not callable(learning_rate):
                learning_rate = WarmupLinear(float(learning_rate), steps, warmup)
            optimizer = AdamW(
                learning_rate,
                weight_decay=weight_decay,
                global_clipnorm=clip,
                gradient_accumulation_steps=accumulates,
            )
        elif (given := accumulation_steps(optimizer)) != accumulates:
            raise ConfigError(
                f"accumulation={accumulation} needs an optimizer with gradient_accumulation_steps={accumulates}. "
                f"Received: {given}"
            )
        model = self._network
        model.compile(optimizer=optimizer, jit_compile=jit_compile)
        speed = Speed(batch_size * self.length, self._flops(batch_size))
        folder = None if folder is None else Path(folder)
        first = self.distribution.process == 0
        # Averages stand in the model before anything looks at it at the end of an epoch.
        average = [] if ema is None else [EMA(ema)]
        noise = [NoiseScale(folder / "noise.csv" if folder and first else None)] if noise_scale else []
        for callback in callbacks:
            if hasattr(callback, "speed"):  # a display of progress
                callback.speed = speed
        every = [*noise, SteadyRandom(), *average, speed, *callbacks]
        state = None
        if folder is not None:
            job = {
                "model": self.model.config.to_dict(),
                "objective": repr(self.objective),
                "shards": shards.fingerprint,
                "length": self.length,
                "steps": steps,
                "valid_every": interval,
                "batch_size": batch_size,
                "accumulation": accumulation,
                "ema": ema,
                "seed": seed,
                "optimizer": _plain(keras.saving.serialize_keras_object(optimizer)),
            }
            if self._generator_config is not None:
                job["generator"] = self._generator_config.to_dict()
            save_every = None if save_every is None else save_every * accumulation
            state = Resume(folder / "state", job=job, save_every=save_every, callbacks=every, writes=first)
            if first:
                log = self._log(folder, batch_size, accumulation, interval, log_every, optimizer)
                every = [_Restart(log, state), log, *every]
        try:
            with seeded_training(model, seed), folder_lock(folder) if folder and first else nullcontext():
                history = run(
                    model,
                    batches,
                    epochs=epochs,
                    callbacks=every,
                    state=state,
                    verbose=verbose,
                    validation=validation,
                    short=steps % interval > 0,
                )
        finally:
            for callback in noise:
                callback.detach()
                callback.log.close()
        for mean in average:
            mean.keep(model)
        return history

    def evaluate(
        self, shards: Shards | str | os.PathLike[str], *, batch_size: int = 32, rows: int | None = None
    ) -> dict[str, dict[str, float]]:
        """Loss, accuracy and perplexity ``exp(loss)`` of each objective on the held-out part of each corpus.

        Args:
            shards: see `fit`.
            batch_size: rows of a batch.
            rows: of each corpus at most; None: all. Whole batches are taken: up to ``batch_size - 1`` rows at the end
                are left out, and fewer rows than a batch are taken again, with other masks.

        Returns:
            ``{corpus: {"mlm_loss": ..., "mlm_accuracy": ..., "mlm_perplexity": ..., ...}}``; with ELECTRA
            ``generator_loss``, ``generator_perplexity``, ``discriminator_accuracy`` and so on.
        """
        check_numbers(batch_size=batch_size)
        check_numbers(optional=True, rows=rows)
        self._check_batch(batch_size)
        shards, found = self._open(shards), {}
        if not self._network.compiled:
            self._network.compile()
        for name in shards.names:
            data = self._validation(shards, batch_size, rows, (name,))
            if data is None:
                continue
            logs = self._network.evaluate(feed(data), verbose=0, return_dict=True)
            found[name] = self._network.scores(logs)
        return found

    def save(self, folder: str | os.PathLike[str], format: str = "kexue") -> None:
        """Write the pretrained model and its tokenizer; `Transformer.from_pretrained` reads it.

        The checkpoint's mask is the configuration's own, causal after pretraining as a pure language model. With
        ELECTRA it is the discriminator with its head; the generator stands in the folder ``generator`` inside.
        """
        model, folder = self.model, Path(folder)
        mask = "causal" if self.objective.mask == "causal" else None
        if self.generator is not None:
            config: Any = self._generator_config
            other = copied(self.generator, Transformer(config, mask=mask, head="lm"))
            other.save_pretrained(folder / "generator", format, tokenizer=self.tokenizer)  # type: ignore[arg-type]
        model = copied(model, Transformer(self._config, mask=mask, head=model.heads))
        model.save_pretrained(folder, format, tokenizer=self.tokenizer)  # type: ignore[arg-type]

    # ---------------------------------------------------------------- parts

    def _check_batch(self, batch_size: int) -> None:
        if batch_size % (copies := self.distribution.copies):
            raise ConfigError(
                f"batch_size must be a multiple of {copies}, the copies of the model on all devices. "
                f"Received: {batch_size}"
            )

    def _open(self, shards: Any) -> Shards:
        shards = shards if isinstance(shards, Shards) else open_shards(shards)
        if shards.vocabulary_sha256 != vocabulary_hash(self.tokenizer.vocabulary):
            raise DataError(
                f"{shards.folder} was made with another vocabulary than this tokenizer's {len(self.tokenizer)} tokens. "
                "Build the shards anew."
            )
        return shards

    def _batches(
        self, shards: Shards, split: str, batch_size: int, seed: int, steps: int, names: Any = None, **options: Any
    ) -> PretrainingBatches:
        chosen = [shards.split(name, split) for name in names or shards.names]
        return PretrainingBatches(
            chosen,
            self.objective,
            self.specials,
            cls_id=self.tokenizer.cls_id,  # type: ignore[arg-type]
            pad_id=self.tokenizer.pad_id,
            length=self.length,
            batch_size=batch_size,
            seed=seed,
            steps=steps,
            share=self.distribution.share,
            **options,
        )

    def _validation(
        self, shards: Shards, batch_size: int, rows: int | None, names: Sequence[str] | None = None
    ) -> PretrainingBatches | None:
        """Held-out rows, the same ones for each objective."""
        names = [name for name in names or shards.names if len(shards.split(name, "valid"))]
        if not names:
            return None
        batches = self._batches(shards, "valid", batch_size, 0, 1, names, fixed=True)
        available = batches.available
        batches.steps = max(min(rows or available, available) // batch_size, 1) * len(batches.parts)
        return batches

    def _flops(self, batch_size: int) -> float:
        """Of a mean step."""
        each = [self._network.flops(batch_size, self.length, part) for part in parts(self.objective)]
        weights = getattr(self.objective, "weights", (1.0,))
        return sum(weight * flops for weight, flops in zip(weights, each, strict=True))

    def _log(
        self, folder: Path, batch_size: int, accumulation: int, steps: int, every: int | None, optimizer: Any
    ) -> CsvLog:
        names = self._network.columns
        rate = list(chain(optimizer))[-1]._learning_rate
        return CsvLog(
            folder / "log.csv",
            [*names, *(f"val_{name}" for name in names), "tokens_per_second", "flops_per_second"],
            steps=steps,
            every=every,
            constants={"batch_size": batch_size * accumulation, "micro_batch": batch_size},
            accumulation=accumulation,
            rate=rate if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule) else None,
        )


class _Restart(keras.callbacks.Callback):
    """Tells the log where the run begins, which is known once the state was restored."""

    def __init__(self, log: CsvLog, state: Resume) -> None:
        super().__init__()
        self.log: CsvLog | None = log
        self.state = state

    def on_train_begin(self, logs: Any = None) -> None:
        if self.log is not None:
            self.log.start(self.state.epoch, self.state.step)
        self.log = None


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))
