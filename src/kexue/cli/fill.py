"""``kexue fill``: what may stand at the ``[MASK]`` of a sentence."""

from typing import Annotated, Any

import typer

from kexue.cli._common import dumps, guarded, one_line
from kexue.errors import DataError

__all__ = ["EXAMPLE", "fill"]

EXAMPLE = "Example: kexue fill 人民法[MASK]应当依法作出[MASK][MASK]。 --samples 5"


@guarded
def fill(
    text: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT]...", help="Texts with [MASK]; a single - stands for lines of stdin."),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="Checkpoint with a masked-language-model head.")
    ] = "zh-mini",
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="Candidates for each [MASK].")] = 5,
    samples: Annotated[
        int,
        typer.Option(
            "--samples", "-n", min=0, help="Whole fillings by Gibbs sampling, where there are several [MASK]."
        ),
    ] = 3,
    sweeps: Annotated[int, typer.Option("--sweeps", min=1, help="Redraw each [MASK] about so many times.")] = 10,
    temperature: Annotated[
        float, typer.Option("--temperature", "-t", help="Of the draws; below 1 for likelier text.")
    ] = 0.7,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the draws.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="JSON Lines.")] = False,
) -> None:
    """Show the likeliest tokens at each [MASK] of a sentence.

    Each [MASK] by itself first. With several, their tokens must fit each other: Gibbs sampling redraws one after the
    other given the rest, and the fillings are listed by the probability of their tokens, the likeliest first.
    """
    from kexue.cli._language import check_length, check_temperature, check_text, load_language, note_unknown, texts_from

    check_temperature(temperature)
    texts = texts_from(text, "a text with [MASK]")
    network, tokenizer = load_language(model)
    parsed = []
    for number, line in enumerate(texts, 1):
        ids = check_text(tokenizer, line, f"text {number}")
        if tokenizer.mask_id not in ids:
            raise DataError(f"text {number} has no {tokenizer.specials['mask']}. Received: {line!r:.60}")
        check_length(network, len(ids), f"text {number}")
        note_unknown(tokenizer, ids, f"Text {number}")
        parsed.append((line, ids))
    sampler = _sampler(network, tokenizer, temperature)
    for line, ids in parsed:
        record = _record(sampler, tokenizer, line, ids, top_k, samples, sweeps, seed)
        if as_json:
            typer.echo(dumps(record))
        else:
            _print(record)


def _sampler(network: Any, tokenizer: Any, temperature: float) -> Any:
    from kexue.decoding.search import MaskedGibbs, MaskedScores, special_tokens

    scores = MaskedScores.of(network, tokenizer)
    return MaskedGibbs(scores, forbidden=special_tokens(tokenizer), temperature=temperature, scan="permutation")


def _record(
    sampler: Any, tokenizer: Any, line: str, ids: list[int], top_k: int, samples: int, sweeps: int, seed: int
) -> dict[str, Any]:
    from kexue.decoding.search import MaskedGibbs

    plain = MaskedGibbs(sampler.scores, forbidden=sampler.forbidden)
    places, laws = plain.fill(ids)
    blanks = []
    for law in laws:
        best = (-law).argsort(kind="stable")[:top_k]
        shown = [{"token": tokenizer.id_to_token(int(i)), "probability": float(law[i])} for i in best if law[i] > 0]
        blanks.append(shown)
    record: dict[str, Any] = {"text": line, "blanks": blanks}
    if len(places) > 1 and samples:
        record["fillings"] = _fillings(sampler, tokenizer, ids, places, samples, sweeps, seed)
    return record


def _fillings(
    sampler: Any, tokenizer: Any, ids: list[int], places: list[int], samples: int, sweeps: int, seed: int
) -> list[dict[str, Any]]:
    from kexue.cli._language import status

    steps = sweeps * len(places)
    frozen = [[i not in places for i in range(len(ids))]] * samples
    last = [tuple(ids)] * samples
    with status() as show:

        def progress(step: int, texts: Any) -> None:
            last[:] = texts
            show(step, steps, tokenizer.decode(texts[0]))

        sampler.sample([ids] * samples, steps, frozen=frozen, seed=seed, progress=progress)
    found = []
    for tokens in dict.fromkeys(last):
        logs = sampler.scores.token_scores([tokens])[0]
        mean = float(logs[places].mean())
        found.append({"text": tokenizer.decode(tokens), "log_probability": round(mean, 4)})
    return sorted(found, key=lambda one: -one["log_probability"])


def _print(record: dict[str, Any]) -> None:
    typer.echo(typer.style(one_line(record["text"]), bold=True))
    for number, blank in enumerate(record["blanks"], 1):
        shown = "  ".join(f"{one['token']} {one['probability']:.3f}" for one in blank)
        typer.echo(f"  {number}: {shown}")
    for one in record.get("fillings", ()):
        typer.echo(f"  {one_line(one['text'])}  {one['log_probability']:.2f}")
