"""From a trainer's configuration to a table of its memory, and to what makes it fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from math import ceil, inf
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from empathy_lightning.errors import InputError
from empathy_lightning.files import check_target, write_json
from empathy_lightning.memory.of_model import case_of
from empathy_lightning.memory.step import Batch, Case, Memory, step_memory
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.modules.pretrained import without_weights

GIB = 2**30


@dataclass(frozen=True)
class Training:
    """A training as its configuration has it.

    Attributes:
        case: Model and what trains.
        batch: The largest.
        on_gpu: Whether the optimiser steps as on a GPU.
    """

    case: Case
    batch: Batch
    on_gpu: bool = True

    @property
    def memory(self) -> Memory:
        """Of a step."""
        return step_memory(self.case, self.batch, self.on_gpu)


def report(
    words: Sequence[str],
    gpu: float | None,
    reserve: float,
    seconds: float | None,
    reply_tokens: int,
    units: int | None,
    out: Path | None,
) -> int:
    """Print the table; arguments and result as of the command."""
    _check(gpu, reserve, seconds, reply_tokens, units)
    check_target(out, [])
    training = training_of(words, seconds, reply_tokens, units)
    memory, batch = training.memory, training.batch
    said = f"{batch.utterances} utterances of {batch.frames / 50:.1f} s a batch, replies of {batch.reply} tokens"
    if training.case.speaker:
        said += f", {batch.units} units"
    print(said)
    for name, size in rows_of(memory).items():
        print(f"{name:<12} {size / GIB:9.3f} GiB")
    if out is not None:
        write_json(out, {**rows_of(memory), "batch": asdict(batch)})
    if gpu is None:
        return 0
    room = (gpu - reserve) * GIB
    if memory.peak <= room:
        print(f"fits into {gpu:g} GiB less {reserve:g} in reserve")
        return 0
    print(f"does not fit into {gpu:g} GiB less {reserve:g} in reserve; what could be changed:")
    for change, other in changes(training):
        peak = other.memory.peak
        verdict = "fits" if peak <= room else ""
        print(f"  {verdict:<4} {peak / GIB:9.3f} GiB  {change}")
    return 1


def _check(gpu: float | None, reserve: float, seconds: float | None, reply_tokens: int, units: int | None) -> None:
    """Refuse what is no amount.

    Raises:
        InputError: If a value is out of range.
    """
    for name, value in {"gpu": gpu, "seconds": seconds, "reply_tokens": reply_tokens}.items():
        if value is not None and not 0 < value < inf:
            raise InputError(f"--{name} {value}: give a number above 0")
    for name, value in {"reserve": reserve, "units": units}.items():
        if value is not None and not 0 <= value < inf:
            raise InputError(f"--{name} {value}: give a number of 0 or more")


def rows_of(memory: Memory) -> dict[str, int]:
    """Bytes by what they are for, the peak last."""
    return {**asdict(memory), "peak": memory.peak}


def training_of(words: Sequence[str], seconds: float | None, reply_tokens: int, units: int | None) -> Training:
    """The training that ``fit`` would make of these words.

    Args:
        words: Files or recipes, then values.
        seconds: Of each utterance; None for what the batch's bounds allow.
        reply_tokens: Of each reply.
        units: Of each reply's speech; None for what the schedule writes.

    Raises:
        InputError: As the command.
    """
    from empathy_lightning.commands.trainer import configuration_of

    given = configuration_of(["fit", *_as_options(words)])
    in_full = str(given["trainer"]["precision"]) in ("None", "32", "32-true")
    size = 4 if in_full else 2
    model = built_of(given)
    case = case_of(model, size, _segments(model))
    # DDP keeps the gradients a second time, in the buckets that it sends.
    if given["trainer"]["strategy"] in ("ddp", "auto") and _devices(given) > 1:
        case = replace(case, weights=replace(case.weights, copies=2))
    batch = _batch_of(given, model, seconds, reply_tokens, units)
    return Training(case, batch, given["trainer"]["accelerator"] != "cpu")


def _as_options(words: Sequence[str]) -> Iterator[str]:
    """The words before the first option are configurations."""
    options = False
    for word in words:
        options = options or word.startswith("-")
        if not options:
            yield "--config"
        yield word


def _devices(given: Any) -> int:
    devices = str(given["trainer"]["devices"])
    return int(devices) if devices.isdigit() else 1


def built_of(given: Any) -> EmpatheticLM:
    """The model of a trainer's configuration without weights, with a gradient where it would train."""
    from empathy_lightning.tasks.before_loading import trained_task

    kind = trained_task(given)
    arguments = given["model"].get("init_args")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--model", type=EmpatheticLM)
    if kind is None or arguments.get("model") is None:
        raise InputError("memory counts the trainings of this library's own tasks")
    with without_weights():
        model: EmpatheticLM = parser.instantiate_classes(Namespace(model=arguments["model"]))["model"]
    if not isinstance(model, EmpatheticLM) or model.responder is None:
        raise InputError("memory counts trainings around a language model: this configuration has none")
    patterns = arguments.get("trainable") or [f"{part}.*" for part in _trained_parts(kind, model)]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(fnmatchcase(name, pattern) for pattern in patterns))
    return model


def _trained_parts(kind: Any, model: EmpatheticLM) -> list[str]:
    assert model.responder is not None
    parts = list(kind.trains)
    if model.responder.partial_lora is not None:
        parts.append("responder.partial_lora")
    return parts


def _segments(model: EmpatheticLM) -> list[int | str]:
    """Lengths of a prompt's words, and its slots; words are guessed at where there is no tokenizer."""
    assert model.responder is not None
    if model.responder.language_model.tokenizer is not None:
        return [part if isinstance(part, str) else len(part) for part in model.responder.segments()]
    prompt = model.responder.asked()
    before, *after = prompt.user.replace("{emotion}", "\0emotion\0").replace("{speech}", "\0speech\0").split("\0")
    # Eight tokens at either end stand for the template's own.
    segments: list[int | str] = [_tokens(f"{prompt.system or ''} {before}") + 8]
    for word in after:
        segments.append(word if word in ("speech", "emotion") else _tokens(word))
    last = segments[-1]
    if isinstance(last, int):
        segments[-1] = last + 8
    return segments


def _tokens(words: str) -> int:
    return ceil(len(words.split()) * 4 / 3)


def _batch_of(given: Any, model: EmpatheticLM, seconds: float | None, reply_tokens: int, units: int | None) -> Batch:
    data = given["data"]
    rows, most, window = data["batch_size"], data["batch_seconds"], model.listener.window
    longest = min(data["max_seconds"], window)
    if seconds is None:
        seconds = most / rows if rows else 10.0
    seconds = min(seconds, longest)
    utterances = max(1, int(most / seconds))
    if rows:
        utterances = min(utterances, rows)
    padded = window if getattr(model.listener.speech_encoder, "pad_to_30s", False) else seconds
    if units is None:
        decoder = None if model.talker is None else model.talker.speech_decoder
        read, write = getattr(decoder, "schedule", (1, 0))
        units = reply_tokens * write // read
    # Frames of a Whisper, 50 a second.
    return Batch(utterances, ceil(padded * 50), reply_tokens, units)


def changes(training: Training) -> list[tuple[str, Training]]:
    """What would take less memory, each alone and the first two together, in the order of what they cost."""
    case, batch = training.case, training.batch
    found: list[tuple[str, Training]] = []
    language, slower = case.language, None
    if not language.checkpointed and case.speaker is None:
        slower = replace(case, language=replace(language, checkpointed=True))
        found.append(("language_model gradient_checkpointing: true, a third more time", replace(training, case=slower)))
    for rows in _halves(batch.utterances):
        smaller = replace(batch, utterances=rows)
        times = batch.utterances // rows
        words = f"data.batch_size {rows}, trainer.accumulate_grad_batches {times} times as many"
        found.append((words, replace(training, batch=smaller)))
        if slower is not None:
            found.append((f"both: checkpointing, {words}", Training(slower, smaller, training.on_gpu)))
    if language.stored == 4:
        found.append(("language_model dtype: bfloat16", replace(training, case=_stored(case, 2))))
    if language.stored > 1:
        found.append(("language_model quantization: torchao-int8", replace(training, case=_stored(case, 1))))
        found.append(("language_model quantization: bitsandbytes-4bit", replace(training, case=_stored(case, 0.5625))))
    return found


def _halves(rows: int) -> list[int]:
    found = []
    while rows > 1:
        rows //= 2
        found.append(rows)
    return found


def _stored(case: Case, size: float) -> Case:
    from empathy_lightning.memory.formulas import linear_weights

    saved = int(linear_weights(case.language.blocks) * (case.language.stored - size))
    return replace(case, weights=replace(case.weights, frozen=case.weights.frozen - saved))
