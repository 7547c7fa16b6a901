import random

import pytest
import torch
from torch import nn

from empathy_lightning.modules.contracts import VocoderError
from empathy_lightning.modules.vocoder_stream import VocoderStream


class Blurred(nn.Module):
    """Ten samples a unit, each of which hears three units on either side."""

    sample_rate = 16_000
    samples_per_unit = 10
    context = 3
    num_units = 8

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(8, 4)
        self.blur = nn.Conv1d(4, 4, 7, padding=3)
        self.up = nn.ConvTranspose1d(4, 1, 10, 10)
        self.read = []

    def forward(self, units):
        self.read.append(units.shape[1])
        return self.up(self.blur(self.embedding(units).mT))[:, 0].tanh()


def streamed(vocoder, units, cuts):
    stream = VocoderStream(vocoder)
    blocks = [stream.push(units[start:end]) for start, end in zip([0, *cuts], [*cuts, len(units)], strict=True)]
    return [*blocks, stream.end()]


def cuts_of(count, generator):
    return sorted(generator.choices(range(count + 1), k=generator.randrange(12)))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 6, 7, 8, 40])
def test_blocks_behind_one_another_are_the_whole_wherever_they_are_cut(count):
    vocoder, generator = Blurred(), random.Random(count)
    units = torch.randint(8, (count,))
    whole = vocoder(units[None])[0].detach() if count else torch.zeros(0)
    for cuts in [[], range(1, count), *(cuts_of(count, generator) for _ in range(6))]:
        heard = torch.cat(streamed(vocoder, units, cuts))
        assert heard.shape == whole.shape and torch.allclose(heard, whole, atol=1e-6)


def test_a_unit_is_heard_when_its_context_is_there_and_each_block_costs_no_more_than_itself():
    vocoder = Blurred()
    units = torch.randint(8, (200,))
    blocks = streamed(vocoder, units, range(1, 200))
    assert [len(block) for block in blocks] == [0] * 3 + [10] * 197 + [30]
    assert max(vocoder.read) == 3 + 1 + 3


def test_a_context_too_short_would_be_heard():
    vocoder = Blurred()
    vocoder.context = 2
    units = torch.randint(8, (40,))
    heard = torch.cat(streamed(vocoder, units, range(1, 40)))
    assert not torch.allclose(heard, vocoder(units[None])[0], atol=1e-4)


def test_a_vocoder_that_hears_the_whole_reply_speaks_at_its_end():
    vocoder = Blurred()
    vocoder.context = None
    units = torch.randint(8, (20,))
    *early, last = streamed(vocoder, units, [5, 10])
    assert not any(len(block) for block in early) and torch.equal(last, vocoder(units[None])[0])


def test_an_unknown_unit_is_told_before_it_is_spoken():
    stream = VocoderStream(Blurred())
    stream.push(torch.tensor([0, 7]))
    for unit in (8, -1):
        with pytest.raises(VocoderError, match=rf"^unit {unit} is unknown to Blurred, which has 0 to 7: use"):
            stream.push(torch.tensor([3, unit]))


def test_a_stream_that_is_left_lets_go_and_twice_does_no_harm():
    stream = VocoderStream(Blurred())
    stream.push(torch.tensor([0, 7]))
    stream.close()
    stream.close()
    assert not len(stream.end())


def test_a_waveform_of_another_shape_is_refused():
    class Flat(Blurred):
        def forward(self, units):
            return super().forward(units)[0]

    with pytest.raises(VocoderError, match=r"Flat gives \(\d+,\) for one reply: it has to give \(B, T\)"):
        VocoderStream(Flat()).push(torch.arange(8))
