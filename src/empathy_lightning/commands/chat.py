"""``chat``: answer recordings, print what was heard and said, and write the spoken replies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from empathy_lightning.audio import AudioError, read_speech, write
from empathy_lightning.chatbot import EmpatheticChatbot
from empathy_lightning.decoding import Decoding
from empathy_lightning.errors import InputError
from empathy_lightning.explanation import explain_reply
from empathy_lightning.files import check_folder, write_json
from empathy_lightning.progress import progress_bar, say
from empathy_lightning.reply import Reply


def chat(
    files: Sequence[Path],
    out: Path,
    checkpoint: Path,
    conversation: bool = False,
    explain: bool = False,
    language: str | None = None,
    decoding: Decoding | None = None,
    batch_size: int = 8,
    trust: Sequence[str] = (),
) -> list[Reply]:
    """Answer files, print what was heard and said, and write ``<name>_reply.wav`` and ``replies.json``.

    Args:
        files: Recordings.
        out: Folder for the replies; made only after every file was found usable.
        checkpoint: Folder of the bot.
        conversation: The files are the turns of one conversation, in order.
        explain: Also print and plot what each emotion embedding is made of.
        language: Of the replies, see :meth:`.chatbot.EmpatheticChatbot.respond`.
        decoding: How the replies are chosen.
        batch_size: Files that are answered together.
        trust: Packages besides this library whose classes the folder may name.

    Raises:
        InputError: If a file or the checkpoint cannot be used.
    """
    if batch_size < 1:
        raise InputError("batch_size has to be at least 1")
    check_folder(out)
    waveforms = _read_all(files)
    bot = EmpatheticChatbot.from_pretrained(checkpoint, trust=trust)
    replies: list[Reply] = []
    entries = []
    size = 1 if conversation else batch_size
    for start in progress_bar(range(0, len(files), size), what="answering", shown=len(files) > size):
        few = slice(start, start + size)
        history = [[reply.turn for reply in replies]] if conversation else None
        answered = bot.respond(waveforms[few], history, language, decoding, batch_size)
        for file, reply in zip(files[few], answered, strict=True):
            name = file.stem if len(files) == 1 else f"{len(replies) + 1:03d}_{file.stem}"
            entries.append({"file": str(file), **_written(reply, out, name, bot, explain, str(file))})
            replies.append(reply)
        # After every batch, so that an interruption loses no words of the replies that were made.
        write_json(out / "replies.json", entries)
    return replies


def _written(reply: Reply, out: Path, name: str, bot: EmpatheticChatbot, explain: bool, title: str) -> dict[str, Any]:
    """Print a reply and write what belongs to it; its entry in replies.json."""
    lines = [title, str(reply)]
    entry = {key: value for key, value in vars(reply).items() if key not in ("waveform", "turn", "estimate")}
    entry["speech"] = None
    if reply.waveform is not None and reply.sample_rate is not None:
        # The units are in the sound.
        entry["units"] = None
        entry["speech"] = f"{name}_reply.wav"
        write(out / f"{name}_reply.wav", reply.waveform, reply.sample_rate)
        lines.append(f"  speech   {out / entry['speech']}")
    if explain:
        explanation = explain_reply(bot.responder.language_model, reply)
        explanation.plot(out / f"{name}_explained.png")
        entry["explanation"] = explanation.values()
        lines.append(f"{explanation}\n  plot     {out / f'{name}_explained.png'}")
    say("\n".join(lines))
    return entry


def _read_all(files: Sequence[Path]) -> list[Tensor]:
    """The waveforms of all files; those that cannot be used are named at once."""
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
