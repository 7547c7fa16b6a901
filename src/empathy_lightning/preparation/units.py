"""Speech of the expected replies, and its units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from empathy_lightning.audio import SAMPLE_RATE, read, resample, write
from empathy_lightning.checkpoints import load_quantizer
from empathy_lightning.data.left_out import MOST, refuse_lost
from empathy_lightning.data.manifest import write_manifest
from empathy_lightning.data.reading import read_chosen
from empathy_lightning.errors import InputError
from empathy_lightning.files import check_target
from empathy_lightning.jobs import Claim, digest, folder_digest, recordings_digest, speech_files
from empathy_lightning.modules.contracts import Quantizer
from empathy_lightning.modules.pretrained import shipped
from empathy_lightning.progress import progress_bar
from empathy_lightning.small_world.espeak import render
from empathy_lightning.small_world.world import REPLY_STYLES, REPLY_VOICE
from empathy_lightning.utterance import Utterance


def render_replies(utterances: Sequence[Utterance], out: str | Path) -> list[Utterance]:
    """Say each response in the style that suits the emotion; a synthetic stand-in for recorded replies.

    Args:
        utterances: With responses and the small world's emotions.
        out: Manifest beside whose name the recordings go, see :func:`~empathy_lightning.jobs.speech_file`.

    Returns:
        The utterances with the recordings of their replies.

    Raises:
        InputError: If eSpeak NG is not installed, or an utterance cannot be said.
    """
    for u in utterances:
        if not u.response or u.emotion not in REPLY_STYLES:
            raise InputError(
                f"{u.corpus}/{u.id} has no recording of its reply (response_path), and to render one it needs a "
                f"response and one of the emotions {', '.join(REPLY_STYLES)}"
            )
    spoken = []
    files = speech_files(Path(out), utterances)
    for u, path in zip(progress_bar(utterances, what="rendering replies"), files, strict=True):
        waveform, rate = render(u.response or "", REPLY_VOICE, REPLY_STYLES[u.emotion or ""])
        write(path, resample(torch.from_numpy(waveform), rate))
        spoken.append(replace(u, response_path=str(path)))
    return spoken


def prepare_units(
    manifest: str | Path,
    out: str | Path,
    quantizer_folder: str | Path,
    train: int | None = None,
    rendered: bool = False,
    again: bool = False,
    max_left_out: float = MOST,
    trust: Sequence[str] = (),
) -> Path:
    """Write the units of each reply's recording; a manifest made from the same is kept.

    The recordings are the utterances' own (``response_path``), whatever the emotions, and replies without one are
    left out. Where no reply has one, all are rendered, see :func:`render_replies`.

    Args:
        manifest: Utterances with responses, spoken or not.
        out: Manifest to write; rendered replies go to ``<out>.speech``.
        quantizer_folder: Of a part that has ``encode``, see :class:`.modules.contracts.Quantizer`.
        train: Most training replies to use; None takes all.
        rendered: Render replies that have recordings, too.
        again: Make anew what is there, whatever it was made from.
        max_left_out: Share of the replies that may have no recording, where others have.
        trust: Packages besides this library whose classes the folder may name.

    Raises:
        InputError: If there are no replies to use, or ``out`` cannot be written or was made from something else.
    """
    manifest, out, folder = Path(manifest), Path(out), Path(shipped(str(quantizer_folder)))
    check_target(out, [manifest])
    if not (folder / "config.json").is_file():
        raise InputError(f"--quantizer: no checkpoint folder at {folder}: make one with `prepare codebook`")
    chosen = _chosen(read_chosen(manifest, audio=False), manifest, train)
    spoken = [] if rendered else [u for u in chosen if u.response_path]
    made_from = {"manifest": digest(manifest), "train": train, "rendered": not spoken}
    made_from["replies"] = recordings_digest((u.response_path or "" for u in spoken), manifest.parent)
    made_from["quantizer"] = folder_digest(folder)
    claim = Claim(out, made_from)
    if claim.is_done(again):
        return out
    if spoken and len(spoken) < len(chosen):
        silent = [("replies without a recording", u.id) for u in chosen if not u.response_path]
        print(f"left out: {len(silent)} of {len(chosen)} replies, which have no recording")
        refuse_lost(silent, len(chosen), max_left_out)
    quantizer: Any = load_quantizer(str(folder), list(trust))
    spoken = spoken or render_replies(chosen, out)
    recordings = progress_bar(spoken, what="units of replies")
    units = [replace(u, units=_units(quantizer, read(u.response_path or ""))) for u in recordings]
    claim.write()
    write_manifest(out, units)
    return out


def _chosen(utterances: Sequence[Utterance], manifest: Path, train: int | None) -> list[Utterance]:
    training = [u for u in utterances if u.split == "train"]
    chosen = training[:train] + [u for u in utterances if u.split != "train"]
    if not chosen:
        raise InputError(f"{manifest} has no utterances, so there are no replies to use")
    return chosen


@torch.no_grad()
def _units(quantizer: Quantizer, waveform: Tensor) -> list[int]:
    """Units of a waveform (T,) at 16 kHz."""
    heard = resample(waveform, SAMPLE_RATE, getattr(quantizer, "sample_rate", SAMPLE_RATE))
    units = quantizer.encode(heard)
    if units.ndim != 1 or units.is_floating_point():
        shape = f"{units.dtype} of shape {tuple(units.shape)}"
        raise InputError(f"encode of {type(quantizer).__name__} gives {shape}: it has to give whole numbers (U,)")
    return [int(unit) for unit in units.tolist()]
