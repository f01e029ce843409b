"""``kexue sample``: text by Gibbs sampling, sentences from keywords, paraphrases by annealing."""

import re
from typing import Annotated, Any

import typer

from kexue.cli._common import die, dumps, guarded, note, one_line
from kexue.errors import ConfigError, DataError

__all__ = ["EXAMPLE", "sample"]

EXAMPLE = (
    "Example: kexue sample --keywords 人民,法院 --chains 4   or   kexue sample 床前明月光，疑是地上霜。 --steps 50"
)


@guarded
def sample(
    text: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="Start from this text instead of blanks.")
    ] = None,
    keywords: Annotated[
        str | None, typer.Option("--keywords", metavar="A,B,...", help="Write sentences with these words in them.")
    ] = None,
    paraphrase: Annotated[bool, typer.Option("--paraphrase", help="Say TEXT in other words.")] = False,
    keep: Annotated[str | None, typer.Option("--keep", metavar="A,B,...", help="Words of TEXT that stay.")] = None,
    length: Annotated[
        int, typer.Option("--length", "-l", min=1, help="Tokens: of a text from blanks; at least, with --keywords.")
    ] = 12,
    longest: Annotated[int, typer.Option("--longest", min=1, help="Tokens at most, with --keywords.")] = 24,
    chains: Annotated[int, typer.Option("--chains", "-n", min=1, help="Texts.")] = 4,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Updates of each.")] = 120,
    temperature: Annotated[float, typer.Option("--temperature", "-t", help="Of Gibbs sampling.")] = 1.0,
    block: Annotated[int, typer.Option("--block", min=1, help="Tokens redrawn at a time, in Gibbs sampling.")] = 1,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of all random numbers.")] = 0,
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="Checkpoint; --keywords and --paraphrase need one trained on prefixes too."),
    ] = "zh-mini",
    as_json: Annotated[bool, typer.Option("--json", help="JSON Lines.")] = False,
) -> None:
    """Draw texts from a language model by changing them again and again.

    Gibbs sampling hides a token and draws another from the model's law given all others; the length stays. With
    --keywords, tokens are replaced, inserted and deleted (Metropolis-Hastings), the words stay, and the likeliest
    sentence of each chain is shown. With --paraphrase the search cools down towards a text like TEXT in other words.
    Ctrl-C ends the search and shows what it has.
    """
    from kexue.cli._language import check_temperature, status

    if keywords is not None and paraphrase:
        die("--keywords and --paraphrase exclude each other.")
    if keywords is not None and text is not None:
        die("Give a TEXT or --keywords, not both.")
    if paraphrase and text is None:
        die("--paraphrase needs a TEXT.")
    if keep is not None and text is None:
        die("--keep names words of a TEXT.")
    check_temperature(temperature)
    if keywords is not None:
        run = _keyword_search(model, _words(keywords), length, longest, chains, steps, seed)
    elif paraphrase:
        run = _paraphrase_search(model, str(text), _words(keep) if keep else [], chains, steps, seed)
    else:
        run = _gibbs_search(model, text, _words(keep) if keep else [], length, chains, steps, temperature, block, seed)
    records: list[dict[str, Any]] = []
    done = 0
    interrupted = False
    with status() as show:

        def progress(step: int, found: list[dict[str, Any]]) -> None:
            nonlocal done
            records[:], done = found, step
            show(step, steps, found[0]["text"])

        try:
            run(progress)
        except KeyboardInterrupt:
            interrupted = True
    for record in records:
        score = "" if record["score"] is None else f"  {record['score']:.2f}"
        typer.echo(dumps(record) if as_json else one_line(record["text"]) + score)
    if interrupted:
        die(f"interrupted after {done} of {steps} steps.", 130)
    note(f"{steps} steps of {chains} chains.")


def _words(listed: str) -> list[str]:
    words = [word.strip() for word in re.split("[,，、]", listed)]
    if not any(words):
        raise ConfigError(f"needs words with commas between them. Received: {listed!r:.60}")
    return [word for word in words if word]


def _gibbs_search(
    model: str,
    text: str | None,
    keep: list[str],
    length: int,
    chains: int,
    steps: int,
    temperature: float,
    block: int,
    seed: int,
) -> Any:
    from kexue.cli._language import check_length, check_text, load_language, note_unknown
    from kexue.decoding.search import MaskedGibbs, MaskedScores, special_tokens

    network, tokenizer = load_language(model)
    scores = MaskedScores.of(network, tokenizer)
    sampler = MaskedGibbs(scores, forbidden=special_tokens(tokenizer), temperature=temperature, block=block)
    ids = [tokenizer.mask_id] * length if text is None else check_text(tokenizer, text)
    note_unknown(tokenizer, ids, "The text")
    check_length(network, len(ids))
    frozen = [False] * len(ids)
    for word in keep:
        own = check_text(tokenizer, word, f"the word {word!r:.30}")
        places = [i for i in range(len(ids)) if ids[i : i + len(own)] == own]
        if text is None or not places:
            raise DataError(f"there is no {word!r:.30} in the text that could stay.")
        for place in places:
            frozen[place : place + len(own)] = [True] * len(own)

    def run(progress: Any) -> None:
        last: list[Any] = []
        done = 0

        def report(step: int, texts: Any) -> None:
            nonlocal done
            last[:], done = texts, step
            progress(step, [{"text": tokenizer.decode(one), "score": None} for one in texts])

        try:
            sampler.sample([ids] * chains, steps, frozen=[frozen] * chains, seed=seed, progress=report)
        finally:
            if last:  # the pseudo-log-likelihoods, for what there is
                values = scores(last)
                best = [
                    {"text": tokenizer.decode(one), "score": round(float(v), 4)}
                    for one, v in zip(last, values, strict=True)
                ]
                progress(done, best)

    return run


def _writer_parts(model: str) -> tuple[Any, Any, Any, Any]:
    from kexue.cli._language import load_language
    from kexue.decoding.search import CausalScores, MaskedScores

    network, tokenizer = load_language(model, mask="prefix")
    if tokenizer.cls_id is None or tokenizer.sep_id is None:
        raise ConfigError(f"{model} has no [CLS] and [SEP] tokens, which open and close a sentence here.")
    language = CausalScores(network, start=tokenizer.cls_id, end=tokenizer.sep_id, pad_id=tokenizer.pad_id)
    return network, tokenizer, language, MaskedScores.of(network, tokenizer)


def _keyword_search(model: str, words: list[str], least: int, most: int, chains: int, steps: int, seed: int) -> Any:
    from kexue.cli._language import check_length
    from kexue.decoding.search import KeywordWriter

    if least > most:
        raise ConfigError(f"--length must not exceed --longest. Received: {least} and {most}")
    network, tokenizer, language, masked = _writer_parts(model)
    check_length(network, most, "a text of --longest")
    writer = KeywordWriter(language, tokenizer, slots=masked.slots, shortest=least, longest=most)

    def run(progress: Any) -> None:
        writer.write(words, chains=chains, steps=steps, seed=seed, progress=lambda n, found: progress(n, _plain(found)))

    return run


def _paraphrase_search(model: str, text: str, keep: list[str], chains: int, steps: int, seed: int) -> Any:
    from kexue.cli._language import check_length, check_text
    from kexue.decoding.search import Paraphraser
    from kexue.decoding.search.likeness import SoftMatch

    network, tokenizer, language, masked = _writer_parts(model)
    check_length(network, len(check_text(tokenizer, text)))
    likeness = SoftMatch(network, start=[tokenizer.cls_id], end=[tokenizer.sep_id], segment=0, pad_id=tokenizer.pad_id)
    search = Paraphraser(language, tokenizer, likeness, slots=masked.slots)

    def run(progress: Any) -> None:
        search.paraphrase(
            text, keep=keep, chains=chains, steps=steps, seed=seed, progress=lambda n, found: progress(n, _plain(found))
        )

    return run


def _plain(found: Any) -> list[dict[str, Any]]:
    return [{"text": one.text, "score": round(one.score, 4)} for one in found]
