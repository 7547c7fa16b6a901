"""What every vocoder that streams has to keep."""

import random

import torch

from empathy_lightning.modules.vocoder_stream import VocoderStream


def loud(vocoder):
    """Weights so large that what is heard of a unit far away would show, and shows where the context is too short."""
    for module in vocoder.modules():
        if isinstance(module, torch.nn.Conv1d | torch.nn.ConvTranspose1d):
            torch.nn.init.normal_(module.weight, std=0.3)
    return vocoder


def streamed(vocoder, units, cuts):
    stream = VocoderStream(vocoder)
    blocks = [stream.push(units[start:end]) for start, end in zip([0, *cuts], [*cuts, len(units)], strict=True)]
    return torch.cat([*blocks, stream.end()])


@torch.no_grad()
def check_streams(vocoder, counts=(1, 2, 5, 60), times=3):
    """Blocks behind one another equal the whole within 1e-3, wherever they are cut."""
    generator = random.Random(0)
    for count in counts:
        units = torch.randint(vocoder.num_units, (count,))
        whole = vocoder(units[None])[0]
        assert whole.std() > 1e-3, "a silent vocoder would pass"
        for cuts in [[], *(sorted(generator.choices(range(count + 1), k=6)) for _ in range(times))]:
            assert (streamed(vocoder, units, cuts) - whole).abs().max() < 1e-3


@torch.no_grad()
def reach(vocoder, count):
    """Units on either side in whose samples another unit in the middle is heard, however faintly.

    All weights are positive, so that no two ways from a unit to a sample cancel out, and small, so that tanh bends
    nothing flat.
    """
    vocoder.double()
    for parameter in vocoder.parameters():
        size = min(1, 5 / parameter[0].numel()) if parameter.ndim == 3 else 1
        parameter.copy_((torch.rand_like(parameter) * 0.1 + 0.05) * size)
    units = torch.zeros(1, count, dtype=torch.long)
    changed = units.clone()
    changed[0, count // 2] = 1
    difference = (vocoder(units) - vocoder(changed))[0].unflatten(0, (count, vocoder.samples_per_unit))
    heard = difference.abs().amax(1).gt(0).nonzero()[:, 0]
    return max(count // 2 - int(heard.min()), int(heard.max()) - count // 2)
