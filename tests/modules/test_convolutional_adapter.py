import pytest
import torch

from empathy_lightning.modules.convolutional_adapter import ConvolutionalAdapter
from tests.conftest import golden, golden_seeds

NAMES = {
    "subsampler.conv_layers": "convolutions", "fc1": "linear1", "fc2": "linear2", "speech_ln": "layernorm",
}  # fmt: skip


def renamed(state):
    """Original names to ours, written apart from the package's own table."""
    return {next(k.replace(a, b) for a, b in NAMES.items() if k.startswith(a)): v for k, v in state.items()}


def close(ours, theirs, tolerance=2e-5):
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance * max(1.0, float(theirs.abs().max())))


def lengths_mask(lengths, width):
    return torch.arange(width) < lengths[:, None]


def golden_adapter(folder, **values):
    state, _ = golden(folder, "adapter.state_dict")
    out, mid = state["fc2.weight"].shape
    adapter = ConvolutionalAdapter(12, out, mid, emotion_size=8, **values)
    adapter.load_state_dict(renamed(state))
    return adapter.eval()


@pytest.mark.parametrize("folder", golden_seeds("rellm"), ids=str)
@pytest.mark.parametrize("case", ["a", "b"])
def test_golden_adapter_as_the_reference_pads(folder, case):
    tensors, _ = golden(folder, "adapter.io")
    adapter = golden_adapter(folder, reference_compat=True)
    frames, mask = tensors[f"{case}.in.whisper_states"], tensors[f"{case}.in.mask"].bool()
    embeddings, valid = adapter(frames, mask, tensors[f"{case}.in.emotion_embedding"])
    close(embeddings, tensors[f"{case}.out.hidden"])
    assert torch.equal(valid.long(), tensors[f"{case}.out.mask"])


@pytest.mark.parametrize("folder", golden_seeds("rellm"), ids=str)
@pytest.mark.parametrize("case", ["a", "b"])
def test_golden_adapter_in_a_batch_is_the_reference_s_utterance_alone(folder, case):
    tensors, _ = golden(folder, "adapter.io")
    mask = tensors[f"{case}.in.mask"].bool()
    emotion = tensors[f"{case}.in.emotion_embedding"]
    embeddings, valid = golden_adapter(folder)(tensors[f"{case}.in.whisper_states"], mask, emotion)
    alone = tensors[f"{case}.out.sample1_alone_hidden"][0]
    assert int(valid[1].sum()) == len(alone)
    close(embeddings[1, : len(alone)], alone)


def test_nothing_depends_on_the_batch_and_lengths_are_rounded_up():
    adapter = ConvolutionalAdapter(4, 6, hidden_size=5, emotion_size=3).eval()
    lengths = torch.tensor([40, 33, 8, 1])
    frames, emotion = torch.randn(4, 40, 4), torch.randn(4, 3)
    together, mask = adapter(frames, lengths_mask(lengths, 40), emotion)
    assert mask.sum(1).tolist() == [-(-length // 8) for length in lengths.tolist()]
    for row, length in enumerate(lengths.tolist()):
        alone, _ = adapter(frames[row : row + 1, :length], lengths_mask(lengths[row : row + 1], length), emotion[[row]])
        torch.testing.assert_close(together[row, mask[row]], alone[0], rtol=1e-5, atol=1e-6)


def test_a_warm_start_is_the_same_function_whatever_the_emotion():
    small = ConvolutionalAdapter(4, 6, hidden_size=5).eval()
    large = ConvolutionalAdapter(4, 6, hidden_size=5, emotion_size=3).eval()
    frames, mask = torch.randn(2, 30, 4), lengths_mask(torch.tensor([30, 19]), 30)
    expected, valid = small(frames, mask)
    assert not torch.allclose(large(frames, mask, torch.randn(2, 3))[0], expected, atol=1e-2)
    large.warm_start(small)
    for scale in (0.0, 1.0, 100.0):
        embeddings, _ = large(frames, mask, scale * torch.randn(2, 3))
        torch.testing.assert_close(embeddings[valid], expected[valid], rtol=1e-5, atol=1e-5)
    emotion = torch.randn(2, 3)
    large(frames, mask, emotion)[0].square().sum().backward()
    first = large.convolutions[0].weight.grad
    assert first[:, 4:].abs().sum() > 0, "the emotion's channels must be able to learn"


def test_at_full_size_it_has_the_released_number_of_parameters():
    with torch.device("meta"):
        sizes = [
            sum(p.numel() for p in ConvolutionalAdapter(1280, 4096, emotion_size=size).parameters())
            for size in (0, 1024)
        ]
    assert sizes == [89_412_608, 204_760_064]


def test_what_does_not_fit_is_said():
    adapter = ConvolutionalAdapter(4, 6, hidden_size=5, emotion_size=3)
    frames, mask = torch.randn(1, 9, 4), torch.ones(1, 9, dtype=torch.bool)
    with pytest.raises(ValueError, match="emotion embedding of width 3"):
        adapter(frames, mask)
    with pytest.raises(ValueError, match="emotion embedding of width 0"):
        ConvolutionalAdapter(4, 6, hidden_size=5)(frames, mask, torch.zeros(1, 3))
    with pytest.raises(ValueError, match="must agree"):
        adapter.warm_start(ConvolutionalAdapter(4, 6, hidden_size=7))
