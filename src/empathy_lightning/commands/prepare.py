"""``prepare ...``: what the trainers need, made from what is there; the steps' modules are imported when they run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from empathy_lightning.commands.options import (
    Again,
    AllowLeftOut,
    DtypeName,
    EngineName,
    ManifestFile,
    PaperName,
    RefusalFilter,
    Wording,
)
from empathy_lightning.errors import InputError

if TYPE_CHECKING:
    from empathy_lightning.preparation.engines import Generation
    from empathy_lightning.preparation.response_selection import ResponseSelection
    from empathy_lightning.prompts import Prompt


@dataclass(frozen=True)
class Asking:
    """How the frozen language model is asked; under torchrun the shards are divided among the processes.

    Attributes:
        language_model: Folder or model id.
        paper: Prompts of a paper.
        prompt: User's turn with {speech} and {emotion} instead of a paper's.
        system: System message.
        max_new_tokens: Longest reply (default: the paper's, or 64).
        temperature: 0 takes the likeliest words; above it, they are drawn.
        seed: Of all draws.
        batch_size: Prompts at a time.
        per_shard: Utterances in a shard, the most that an interruption costs.
        dtype: Precision of the weights.
        engine: What runs the model.
    """

    language_model: str
    paper: PaperName | None = None
    prompt: Wording = None
    system: Wording = None
    max_new_tokens: int | None = None
    temperature: float = 0.0
    seed: int = 0
    batch_size: int = 64
    per_shard: int = 1024
    dtype: DtypeName = "float32"
    engine: EngineName = "transformers"

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "batch_size", "per_shard"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name} must be 1 or more")
        if self.paper is not None and self.prompt is not None:
            raise InputError("give --paper or --prompt, not both")

    def generation(self, with_emotion: bool) -> Generation:
        """What decides the answers beside the utterances.

        Args:
            with_emotion: Whether the model is told the emotion.
        """
        from empathy_lightning.preparation.engines import Generation

        default, longest = self._of_paper(with_emotion)
        return Generation(
            self.language_model,
            self._worded(default),
            self.max_new_tokens or longest,
            self.temperature,
            self.seed,
            self.batch_size,
            self.dtype,
            self.engine,
        )

    def _worded(self, default: Prompt) -> Prompt:
        from empathy_lightning.prompts import Prompt

        user = default.user if self.prompt is None else self.prompt
        system = default.system if self.system is None else self.system
        return Prompt(user, system)

    def _of_paper(self, with_emotion: bool) -> tuple[Prompt, int]:
        """Prompt and longest reply unless others are given."""
        from empathy_lightning.papers import paper_named
        from empathy_lightning.prompts import SPEECH_AND_EMOTION, SPEECH_ONLY, Prompt

        if self.paper is None:
            return Prompt(SPEECH_AND_EMOTION if with_emotion else SPEECH_ONLY), 64
        wordings = paper_named(self.paper)
        return wordings.labelled if with_emotion else wordings.unlabelled, wordings.max_new_tokens


@dataclass(frozen=True)
class Keeping:
    """What is kept; changing it asks the model nothing again.

    Attributes:
        refusals: Filter of refusals.
        drop_cut: Drop replies cut at the longest length.
        min_words: Fewest words of a reply.
        max_words: Most words of a reply.
        script: Language whose script the replies must have, or own for each utterance's.
        max_repeats: How often the same words may come.
        max_overlap: 3-gram overlap (0..1) from which a reply is a duplicate.
        max_similarity: Cosine of mean embeddings above which replies are alike.
        keep: Keep this many replies that lie farthest apart.
    """

    refusals: RefusalFilter = "published"
    drop_cut: bool = False
    min_words: int | None = None
    max_words: int | None = None
    script: str | None = None
    max_repeats: int | None = None
    max_overlap: float | None = None
    max_similarity: float | None = None
    keep: int | None = None

    def selection(self) -> ResponseSelection:
        """The rules by which responses are kept."""
        from empathy_lightning.preparation import response_selection
        from empathy_lightning.text import Rule, cut, empty, in_script, length_within

        rules: list[Rule] = [empty]
        if self.min_words or self.max_words:
            rules.append(length_within(self.min_words or 0, self.max_words))
        refusal = response_selection.REFUSALS[self.refusals]
        if refusal is not None:
            rules.append(refusal)
        if self.drop_cut:
            rules.append(cut)
        if self.script is not None:
            rules.append(in_script(None if self.script == "own" else self.script))
        return response_selection.ResponseSelection(
            tuple(rules), self.max_repeats, self.max_overlap, self.max_similarity, self.keep
        )


ASKING = Parameter(name="*", group="Generation (under torchrun the shards are divided among the processes)")
KEEPING = Parameter(name="*", group="What is kept (changing it asks the model nothing again)")


def responses(
    manifest: ManifestFile,
    /,
    *,
    asking: Annotated[Asking, ASKING],
    out: Path,
    without_emotion: bool = False,
    keeping: Annotated[Keeping, KEEPING] = Keeping(),
    again: Again = False,
    allow_left_out: AllowLeftOut = 0.01,
) -> None:
    """Let the frozen language model answer each transcript.

    Args:
        manifest: Utterances with transcripts.
        asking: How the model is asked.
        out: Manifest to write, .jsonl or .parquet.
        without_emotion: Answer the transcript alone (stage 1).
        keeping: What is kept.

    Raises:
        InputError: If something cannot be used, or the place holds what was made from something else.
    """
    from empathy_lightning.preparation.responses import prepare_responses

    generation = asking.generation(not without_emotion)
    written = prepare_responses(
        manifest,
        out,
        **vars(generation),
        selection=keeping.selection(),
        per_shard=asking.per_shard,
        again=again,
        max_left_out=allow_left_out,
    )
    print(written)


def instructions(
    wishes: Path,
    /,
    *,
    asking: Annotated[Asking, ASKING],
    out: Path,
    asked: int = 1000,
    filled: int = 0,
    fewest_words: int = 3,
    most_words: int = 12,
    overlap: float = 0.5,
    held_out: float = 0.05,
    again: Again = False,
) -> None:
    """Let a language model write what users might say, and fill templates beside it.

    Args:
        wishes: YAML with topics, requests and templates (a file, or recipe:NAME such as recipe:real/instructions).
        asking: How the model is asked.
        out: Manifest of the texts, .jsonl or .parquet.
        asked: Requests to the model; each gives a few texts.
        filled: Templates to fill; they only train.
        fewest_words: Fewest words of a text.
        most_words: Most words of a text.
        overlap: 3-gram overlap (0..1) from which a text is like an earlier one and is dropped.
        held_out: Share of the model's texts that validates, and as large a one that tests.

    Raises:
        InputError: If something cannot be used, or the place holds what was made from something else.
    """
    from empathy_lightning.preparation.instructions import prepare_instructions

    for name, value in (("asked", asked), ("filled", filled)):
        if value < 0:
            raise InputError(f"--{name} must be 0 or more")
    if not 0 < overlap <= 1 or not 0 <= held_out <= 0.5:
        raise InputError("--overlap lies above 0 and up to 1, --held_out from 0 to 0.5")
    within = (fewest_words, most_words)
    how = (asked, filled, within, overlap, held_out, asking.per_shard, again)
    print(prepare_instructions(wishes, out, asking.generation(with_emotion=False), *how))


def pseudo_dialogues(
    manifest: ManifestFile,
    /,
    *,
    asking: Annotated[Asking, ASKING],
    recordings: ManifestFile,
    out: Path,
    distribution: str | None = None,
    per_recording: int = 1,
    keeping: Annotated[Keeping, KEEPING] = Keeping(),
    again: Again = False,
    allow_left_out: AllowLeftOut = 0.01,
) -> None:
    """Pair spoken instructions with emotional speech (FreezeEmpath).

    Args:
        manifest: Spoken instructions with transcripts.
        asking: How the model is asked.
        recordings: Manifest of emotional speech with labels.
        out: Manifest to write, .jsonl or .parquet.
        distribution: neutral=0.3,happy=0.2,... (default: that of the recordings).
        per_recording: Dialogues for each recording.
        keeping: What is kept.

    Raises:
        InputError: If something cannot be used, or the place holds what was made from something else.
    """
    from empathy_lightning.preparation.pseudo_dialogues import parse_distribution, prepare_pseudo_dialogues

    shares = parse_distribution(distribution) if distribution else None
    how = (asking.generation(with_emotion=True), keeping.selection(), shares, per_recording, asking.per_shard)
    print(prepare_pseudo_dialogues(manifest, recordings, out, *how, again=again, max_left_out=allow_left_out))


def ratings(
    manifest: ManifestFile,
    /,
    *,
    out: Path,
    emotion_encoder: str,
    again: Again = False,
    allow_left_out: AllowLeftOut = 0.01,
) -> None:
    """Fill missing arousal, valence and dominance by a frozen encoder.

    Args:
        manifest: Utterances, rated or not.
        out: Manifest with the ratings.
        emotion_encoder: Folder or model id of a wav2vec 2.0 emotion model.

    Raises:
        InputError: If the encoder is not one, or the place holds what was made from something else.
    """
    from empathy_lightning.preparation.ratings import prepare_ratings

    print(prepare_ratings(manifest, out, emotion_encoder, again=again, max_left_out=allow_left_out))
