"""``chat`` and ``respond``: answer recordings, those of a few files or those of a manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from empathy_lightning.commands.options import Again, AllowLeftOut, Flat, ManifestFile, PaperName, Trust, Wording
from empathy_lightning.decoding import Decoding
from empathy_lightning.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from empathy_lightning.chatbot import EmpatheticChatbot
    from empathy_lightning.filled_prompt import Turn
    from empathy_lightning.prompts import Prompt
    from empathy_lightning.reply import Reply


def chat(
    files: Annotated[Sequence[Path], Parameter(negative=())],
    /,
    *,
    checkpoint: Path,
    out: Path,
    conversation: bool = False,
    explain: bool = False,
    language: str | None = None,
    decoding: Annotated[Decoding, Flat] = Decoding(),  # noqa: B008 - frozen
    speech: bool = True,
    batch_size: int = 8,
    trust: Trust = (),
    again: Again = False,
) -> None:
    """Answer recordings with text and speech.

    Prints what was heard and said, of one file or a conversation as it is written, and writes NAME_reply.wav and
    replies.json.

    Args:
        files: WAV, FLAC, OGG or MP3, mono or stereo, 0.2 s to 5 min.
        checkpoint: Folder of the bot.
        out: Folder for the spoken replies and replies.json; made only after every file was found usable.
        conversation: The files are the turns of one conversation, in order.
        explain: Say and plot what each emotion embedding is made of.
        language: Of the replies: auto (the user's own) or a name; needs a capable model.
        decoding: How the replies are chosen.
        speech: Speak the replies too, where the bot can.
        batch_size: Files answered together.
        trust: Packages besides this library whose classes the folder may name.

    Raises:
        InputError: If a file or the checkpoint cannot be used, or the folder holds replies already.
    """
    from empathy_lightning.chatbot import EmpatheticChatbot
    from empathy_lightning.files import check_folder, write_json
    from empathy_lightning.progress import say

    _check_options(batch_size, decoding, speech)
    check_folder(out)
    if (out / "replies.json").exists() and not again:
        raise InputError(f"{out} holds replies already: give another folder as --out, or --again to write over them")
    waveforms = _read_all(files)
    bot = EmpatheticChatbot.from_pretrained(checkpoint, trust=trust)
    if speech and bot.model.talker is not None and bot.model.talker.vocoder is None:
        print(f"{checkpoint} has no vocoder: its speech is written as units, in replies.json, and is not to be heard")
    # Whoever waits for one answer reads it as it is written.
    alone = conversation or len(files) == 1
    answered: Callable[..., Batches] = _one_by_one if alone else partial(_together, batch_size)
    entries: list[dict[str, Any]] = []
    for few, replies in answered(bot, files, waveforms, language, decoding, speech):
        for file, reply in zip(few, replies, strict=True):
            if not alone:
                say(f"{file}\n{reply}")
            name = file.stem if len(files) == 1 else f"{len(entries) + 1:03d}_{file.stem}"
            entries.append({"file": str(file), **_written(reply, out, name, bot, explain)})
        # After every batch, so that an interruption loses no words of the replies that were made.
        write_json(out / "replies.json", entries)


def respond(
    manifest: ManifestFile,
    /,
    *,
    checkpoint: Path,
    out: Path,
    split: str = "test",
    paper: PaperName | None = None,
    prompt: Wording = None,
    system: Wording = None,
    language: str | None = None,
    decoding: Annotated[Decoding, Flat] = Decoding(),  # noqa: B008 - frozen
    speech: bool = False,
    words: bool = False,
    batch_size: int = 16,
    per_shard: int = 512,
    trust: Trust = (),
    again: Again = False,
    allow_left_out: AllowLeftOut = 0.01,
) -> None:
    """Answer every utterance of a manifest and write the replies as one.

    Args:
        manifest: Utterances.
        checkpoint: Folder of the bot.
        out: Manifest to write, .jsonl or .parquet.
        split: Which to answer, or all.
        paper: Prompts of a paper (default: the folder's own).
        prompt: User's turn with {speech} (and {emotion}) instead.
        system: System message of that prompt.
        language: Of the replies, as in chat: auto (the user's own) or a name.
        decoding: How the replies are chosen.
        speech: Speak the replies too: WAV files in OUT.speech.
        words: Answer the transcripts as if they were typed, and listen to nothing.
        batch_size: Recordings at a time.
        per_shard: Utterances in a shard, the most that an interruption costs.

    Raises:
        InputError: If the options do not fit together, or a file cannot be used.
    """
    from empathy_lightning.evaluation.answering import Answering
    from empathy_lightning.evaluation.replies import answer_manifest

    asked, longest = asked_prompt(paper, prompt, system)
    decoding = chosen_decoding(decoding, longest, speech)
    how = Answering(
        checkpoint,
        asked,
        decoding,
        aloud=speech,
        words=words,
        language=language,
        batch_size=batch_size,
        per_shard=per_shard,
        trust=trust,
        max_left_out=allow_left_out,
    )
    answer_manifest(how, manifest, out, split, again)


def chosen_decoding(decoding: Decoding, longest: int | None, speech: bool) -> Decoding:
    """How replies are chosen, as long as the paper's where no length is given.

    Raises:
        InputError: If units are to be chosen where nothing is spoken.
    """
    if decoding.chooses_units and not speech:
        raise InputError("--unit_temperature and the other options of units are for speech: give --speech too")
    return replace(decoding, max_new_tokens=longest) if decoding.max_new_tokens is None else decoding


def asked_prompt(paper: str | None, prompt: str | None, system: str | None) -> tuple[Prompt | None, int | None]:
    """The prompt that is given, None for the folder's own, and the longest reply of a paper."""
    from empathy_lightning.papers import paper_named
    from empathy_lightning.prompts import Prompt

    if (paper is not None and prompt is not None) or (system is not None and prompt is None):
        raise InputError("give --paper, or --prompt with or without --system")
    if paper is not None:
        wordings = paper_named(paper)
        return wordings.spoken, wordings.max_new_tokens
    asked = None if prompt is None else Prompt(prompt, system)
    return asked, None


def _check_options(batch_size: int, decoding: Decoding, speech: bool) -> None:
    if batch_size < 1:
        raise InputError("batch_size has to be at least 1")
    if decoding.chooses_units and not speech:
        raise InputError("--unit_temperature and the other options of units are for speech: leave --speech=false out")


Batches = Iterator[tuple[Sequence[Path], "list[Reply]"]]
"""Files that are answered together, with their replies."""


def _one_by_one(
    bot: EmpatheticChatbot,
    files: Sequence[Path],
    waveforms: Sequence[Tensor],
    language: str | None,
    decoding: Decoding,
    speech: bool,
) -> Batches:
    """Answer each file after those before it, as the turns of a conversation."""
    past: list[Turn] = []
    for file, waveform in zip(files, waveforms, strict=True):
        reply = _streamed(bot, file, waveform, list(past), language, decoding, speech)
        past.append(reply.turn)
        yield [file], [reply]


def _together(
    size: int,
    bot: EmpatheticChatbot,
    files: Sequence[Path],
    waveforms: Sequence[Tensor],
    language: str | None,
    decoding: Decoding,
    speech: bool,
) -> Batches:
    """Answer so many files at a time, each by itself."""
    from empathy_lightning.progress import progress_bar

    for start in progress_bar(range(0, len(files), size), what="answering", shown=len(files) > size):
        few = slice(start, start + size)
        yield files[few], bot.respond(waveforms[few], None, language, decoding, size, speech)


def _streamed(
    bot: EmpatheticChatbot,
    file: Path,
    waveform: Tensor,
    history: Sequence[Turn],
    language: str | None,
    decoding: Decoding,
    speech: bool,
) -> Reply:
    """Answer a recording, and print the reply as it is written."""
    from empathy_lightning.streaming import TextPiece

    with bot.stream(waveform, history, language, decoding, speech) as stream:
        # What was heard is known before the first word.
        print(f"{file}\n{stream.reply}", end="", flush=True)
        for event in stream:
            if isinstance(event, TextPiece):
                print(event.text, end="", flush=True)
        print(flush=True)
    return stream.reply


def _written(reply: Reply, out: Path, name: str, bot: EmpatheticChatbot, explain: bool) -> dict[str, Any]:
    """Print and write what belongs to a reply beside its text; its entry in replies.json."""
    from empathy_lightning.audio import write
    from empathy_lightning.explanation import explain_reply
    from empathy_lightning.progress import say

    lines = []
    entry = {key: value for key, value in vars(reply).items() if key not in ("waveform", "turn", "estimate")}
    entry["timings"] = vars(reply.timings)
    entry["speech"] = None
    if reply.waveform is not None and reply.sample_rate is not None:
        # The units are in the sound.
        entry["units"] = None
        entry["speech"] = f"{name}_reply.wav"
        write(out / f"{name}_reply.wav", reply.waveform, reply.sample_rate)
        lines.append(f"  speech   {out / entry['speech']}")
    if reply.speech_cut:
        lines.append("  cut      its speech did not end by itself: it was cut at --units_per_token")
    if reply.fault is not None:
        lines.append(f"  fault    {reply.fault}")
    if explain:
        explanation = explain_reply(bot.responder.language_model, reply)
        explanation.plot(out / f"{name}_explained.png")
        entry["explanation"] = explanation.values()
        lines.append(f"{explanation}\n  plot     {out / f'{name}_explained.png'}")
    if lines:
        say("\n".join(lines))
    return entry


def _read_all(files: Sequence[Path]) -> list[Tensor]:
    """The waveforms of all files; those that cannot be used are named at once."""
    from empathy_lightning.audio import AudioError, read_speech

    wrong = []
    waveforms = []
    for file in files:
        try:
            waveforms.append(read_speech(file))
        except AudioError as error:
            wrong.append(str(error))
    if wrong:
        raise AudioError("; ".join(wrong))
    return waveforms
