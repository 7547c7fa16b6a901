"""The commands `respond` and `evaluate-responses`; what they need is imported when they run."""

from __future__ import annotations

import argparse
from pathlib import Path

from empathy_lightning.choices import RECIPES, TRUST
from empathy_lightning.errors import InputError
from empathy_lightning.options import add_again, add_left_out


def add_responses(commands: argparse._SubParsersAction[argparse.ArgumentParser], checkpoint: str) -> None:
    """Add both commands: let a bot answer a manifest, and score the replies.

    Args:
        commands: Of the command line.
        checkpoint: Folder of the bot that answers unless another is given.
    """
    respond = commands.add_parser("respond", help="answer every utterance of a manifest and write the replies as one")
    respond.add_argument("manifest", type=Path)
    respond.add_argument("--checkpoint", type=Path, default=Path(checkpoint), help="default: %(default)s")
    respond.add_argument("--out", type=Path, required=True, help="manifest to write, .jsonl or .parquet")
    respond.add_argument("--split", default="test", help="which to answer, or `all` (default %(default)s)")
    respond.add_argument("--trust", metavar="PACKAGE", action="append", default=[], help=TRUST)
    respond.add_argument("--recipe", choices=RECIPES, help="prompt of a paper (default: the folder's own)")
    respond.add_argument("--prompt", help="user's turn with {speech} (and {emotion}) instead")
    respond.add_argument("--system", help="system message of that prompt")
    respond.add_argument("--max-new-tokens", type=int, help="longest reply (default: the recipe's, or 128)")
    respond.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest words (default)")
    respond.add_argument("--top-p", type=float, default=1.0, help="draw from the likeliest tokens of this probability")
    respond.add_argument("--seed", type=int, default=0, help="seed of the draws, of words and units")
    respond.add_argument("--speech", action="store_true", help="speak the replies too: WAV files in <out>.speech")
    respond.add_argument("--unit-temperature", type=float, help="of the speech units' draws, see chat --help")
    respond.add_argument("--batch-size", type=int, default=16, help="recordings at a time (default %(default)s)")
    respond.add_argument("--per-shard", type=int, default=512, help="utterances in a shard (default %(default)s)")
    add_again(respond)
    add_left_out(respond)
    respond.set_defaults(run=_respond)

    score = commands.add_parser(
        "evaluate-responses", help="score replies: empathy, overlap, variety, emotions named, speech"
    )
    score.add_argument("replies", type=Path, help="manifest whose responses are the replies")
    score.add_argument("--split", default="test", help="which to score, or `all` (default %(default)s)")
    score.add_argument("--empathy-classifier", type=Path, help="folder that `convert epitome` wrote")
    score.add_argument(
        "--asr",
        metavar="WHISPER",
        help="transcribe the spoken replies with it, for example openai/whisper-large-v3 or a folder: word and "
        "character error rates against their text",
    )
    score.add_argument(
        "--asr-language", metavar="CODE", help="of all replies, or `auto` to hear it (default: each utterance's own)"
    )
    score.add_argument(
        "--against", type=Path, help="another system's replies: Wilcoxon's test of the empathy and of the word errors"
    )
    score.add_argument("--references", type=Path, help="manifest with expected responses: BLEU, chrF, ROUGE")
    score.add_argument(
        "--bert-score", type=Path, metavar="FOLDER", help="encoder for BERTScore, for example a roberta-large"
    )
    score.add_argument("--bert-layer", type=int, help="its layer (roberta-large: 17; default: the last)")
    score.add_argument("--out", type=Path, help="write figures and each reply's scores as JSON")
    score.set_defaults(run=_evaluate_responses)


def _respond(options: argparse.Namespace) -> None:
    from empathy_lightning.decoding import Decoding
    from empathy_lightning.evaluation.replies import answer_manifest
    from empathy_lightning.prompts import Prompt
    from empathy_lightning.recipes import recipe_named

    given = options.prompt is not None
    if (options.recipe is not None and given) or (options.system is not None and not given):
        raise InputError("give --recipe, or --prompt with or without --system")
    recipe = None if options.recipe is None else recipe_named(options.recipe)
    prompt = Prompt(options.prompt, options.system) if given else recipe.spoken if recipe else None
    longest = options.max_new_tokens
    if longest is None:
        longest = recipe.max_new_tokens if recipe else Decoding.max_new_tokens
    if options.unit_temperature is not None and not options.speech:
        raise InputError("--unit-temperature is for the speech of replies: give --speech too")
    decoding = Decoding(longest, options.temperature, options.top_p, options.seed, options.unit_temperature)
    files = (options.checkpoint, options.manifest, options.out)
    answer_manifest(
        *files,
        options.split,
        prompt,
        decoding,
        options.speech,
        options.batch_size,
        options.per_shard,
        trust=options.trust,
        again=options.again,
        max_left_out=options.allow_left_out,
    )


def _evaluate_responses(options: argparse.Namespace) -> None:
    from empathy_lightning.evaluation.scoring import evaluate_responses

    evaluate_responses(
        options.replies,
        options.out,
        options.split,
        empathy_classifier=options.empathy_classifier,
        against=options.against,
        references=options.references,
        bert_score=options.bert_score,
        bert_layer=options.bert_layer,
        asr=options.asr,
        asr_language=options.asr_language,
    )
