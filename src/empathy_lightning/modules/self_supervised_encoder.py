"""HuBERT, wav2vec 2.0 and WavLM as frozen speech encoders: the layers over which units are commonly drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel
from transformers.utils.hub import cached_file

from empathy_lightning.modules.emotion_encoder import normalise
from empathy_lightning.modules.model_files import PretrainedError, read_json_object
from empathy_lightning.modules.pretrained import commit_of, load, opened
from empathy_lightning.modules.speech_encoder import EncodedSpeech, freeze, length_mask

KINDS = ("hubert", "wav2vec2", "wavlm")
"""The ``model_type`` of those that there are."""


class SelfSupervisedEncoder(nn.Module):
    """One of :data:`KINDS` at 16 kHz, 50 frames a second; always frozen, and a result never depends on the batch.

    Args:
        config: Configuration of the model.
        normalize: Whether each waveform is brought to zero mean and unit variance, as the model's preprocessor says.
    """

    max_seconds = 30.0

    def __init__(self, config: Any, normalize: bool = True) -> None:
        super().__init__()
        self.model: Any = AutoModel.from_config(config)
        self.hidden_size: int = config.hidden_size
        self.num_layers: int = config.num_hidden_layers
        self.normalize = normalize
        # A norm over time hears the padding, so that such a model takes one utterance at a time.
        self._alone = config.feat_extract_norm == "group"
        self._shortest = 1
        for kernel, stride in reversed(list(zip(config.conv_kernel, config.conv_stride, strict=True))):
            self._shortest = (self._shortest - 1) * stride + kernel
        self.source: dict[str, Any] | None = None
        freeze(self)

    @classmethod
    def from_pretrained(cls, name_or_path: str, revision: str | None = None) -> SelfSupervisedEncoder:
        """Load a checkpoint.

        Args:
            name_or_path: Folder or model id, for example ``facebook/hubert-large-ll60k``.
            revision: Commit of the model id.

        Raises:
            PretrainedError: If the files cannot be used, or are of another kind of model.
        """
        with opened(name_or_path, revision) as (folder, where):
            config = AutoConfig.from_pretrained(folder, **where)
            file = cached_file(folder, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False, **where)
        if config.model_type not in KINDS:
            raise PretrainedError(f"{name_or_path} is a {config.model_type}, not one of {', '.join(KINDS)}")
        says = read_json_object(Path(file)) if file else {}
        normalize = bool(says.get("do_normalize", config.feat_extract_norm == "layer"))
        spare = ("masked_spec_embed",)  # It serves training alone.
        model = load(AutoModel, name_or_path, revision, spare=spare, dtype=torch.float32)
        encoder = cls(config, normalize)
        encoder.model.load_state_dict(model.state_dict())
        encoder.source = {"name_or_path": name_or_path, "revision": commit_of(name_or_path, revision)}
        return encoder

    @torch.no_grad()
    def forward(self, waveform: Tensor, lengths: Tensor) -> EncodedSpeech:
        """Encode speech.

        Args:
            waveform: Samples at 16 kHz, right-padded, shape (B, T); silence fills up what is shorter than a frame.
            lengths: Valid samples, shape (B,).

        Returns:
            Its last hidden state, and what transformers calls the hidden states of its blocks.
        """
        if self._alone and len(waveform) > 1:
            pairs = zip(waveform, lengths, strict=True)
            return _joined([self._encoded(row[None, :length], length[None]) for row, length in pairs])
        return self._encoded(waveform, lengths)

    def _encoded(self, waveform: Tensor, lengths: Tensor) -> EncodedSpeech:
        waveform = waveform * length_mask(lengths, waveform.shape[1])
        waveform = normalise(waveform, lengths) if self.normalize else waveform
        waveform = nn.functional.pad(waveform, (0, max(0, self._shortest - waveform.shape[1])))
        lengths = lengths.clamp(min=self._shortest)
        heard = length_mask(lengths, waveform.shape[1])
        whole = self._alone or bool(heard.all())
        attended = None if whole else heard.long()
        output = self.model(waveform, attention_mask=attended, output_hidden_states=True)
        counts = self.model._get_feat_extract_output_lengths(lengths)
        mask = length_mask(counts, output.last_hidden_state.shape[1])
        layers = tuple(layer * mask[..., None] for layer in output.hidden_states[1:])
        return EncodedSpeech(output.last_hidden_state * mask[..., None], layers, mask)


def _joined(rows: list[EncodedSpeech]) -> EncodedSpeech:
    """A batch of utterances that were encoded alone."""

    def _padded(tensors: list[Tensor]) -> Tensor:
        return nn.utils.rnn.pad_sequence([tensor[0] for tensor in tensors], batch_first=True)

    layers = []
    for of_rows in zip(*(row.layers for row in rows), strict=True):
        layers.append(_padded(list(of_rows)))
    frames = _padded([row.frames for row in rows])
    return EncodedSpeech(frames, tuple(layers), _padded([row.mask for row in rows]))
