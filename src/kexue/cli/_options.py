"""Options that the commands of ``kexue train`` share."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "BatchSize",
    "Dtype",
    "Epochs",
    "LearningRate",
    "Restart",
    "Resume",
    "SaveEvery",
    "Seed",
    "Slim",
    "Test",
    "TokenizerFile",
    "Valid",
]

Valid = Annotated[
    Path | None, typer.Option(help="Validation data, which picks the best epoch; a tenth of --data by default.")
]
Test = Annotated[Path | None, typer.Option(help="Test data, scored at the end.")]
Epochs = Annotated[int, typer.Option(min=1)]
BatchSize = Annotated[int, typer.Option(min=1)]
LearningRate = Annotated[
    float | None,
    typer.Option(
        help="2e-5 by default, 1e-3 for hidden sizes below 512 (as zh-mini) and random weights.", show_default=False
    ),
]
SaveEvery = Annotated[int, typer.Option(min=1, help="Steps between saved states, beside those of epochs.")]
Slim = Annotated[bool, typer.Option("--slim/--no-slim", help="Leave out tokens that the tokenizer can never produce.")]
TokenizerFile = Annotated[
    Path | None,
    typer.Option("--tokenizer", "--vocab", help="tokenizer.json, vocab.txt or their folder, instead of the model's."),
]
Dtype = Annotated[str | None, typer.Option(help="Keras policy such as mixed_bfloat16.", show_default=False)]
Seed = Annotated[int, typer.Option(min=0)]
Resume = Annotated[
    bool, typer.Option("--resume/--no-resume", help="Go on with an interrupted training in the same --output.")
]
Restart = Annotated[
    bool, typer.Option("--restart", help="Begin anew, whatever is in --output; a finished task is replaced.")
]
