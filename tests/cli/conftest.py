"""A small checkpoint and a way to run the command in this process."""

import numpy as np
import pytest
from typer.testing import CliRunner

from kexue.cli import app


@pytest.fixture(scope="session")
def command():
    """``command("inspect", folder)`` -> result with exit_code, stdout, stderr."""
    runner = CliRunner()

    def run(*arguments, stdin=None):
        result = runner.invoke(app, [str(a) for a in arguments], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def mistake(command):
    """Run a command that must end with exit code 2 and one line on stderr; gives that line."""

    def run(*arguments, stdin=None, partial=False):
        result = command(*arguments, stdin=stdin)
        assert result.exit_code == 2, result.output
        assert partial or result.stdout == ""  # a stream that breaks later has given what came before
        lines = result.stderr.strip().splitlines()
        assert lines[-1].startswith("Error: "), result.stderr
        assert "Traceback" not in result.stderr
        return lines[-1]

    return run


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"青阳气象局发布暴雨橙色预警北京到上海的高铁。，", "rain", "##y"]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A BERT of two layers with all heads and a tokenizer, in the Hugging Face format."""
    import keras

    from kexue.models import Transformer
    from kexue.text import Tokenizer

    keras.utils.set_random_seed(3)
    config = {
        "vocabulary_size": len(WORDS),
        "hidden_size": 12,
        "num_layers": 2,
        "num_heads": 3,
        "intermediate_size": 20,
        "max_length": 64,
        "num_segments": 3,
        "norm_epsilon": 1e-6,
        "activation": "relu",
    }
    model = Transformer(config, head=("lm", "pooler", "nsp"))
    generator = np.random.default_rng(0)
    for weight in model.trainable_weights:  # initial values have zeros and ones, which any mistake might restore
        weight.assign(generator.normal(size=weight.shape).astype("float32"))
    folder = tmp_path_factory.mktemp("checkpoint") / "hf"
    model.save_pretrained(folder, "hf", tokenizer=Tokenizer.from_vocab(WORDS, lowercase=True))
    return folder
