import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from empathy_lightning.errors import InputError
from empathy_lightning.modules.speech_decoder import SpeechDecoder
from empathy_lightning.modules.unit_choice import UnitDecoding, choose
from empathy_lightning.modules.unit_language_model import Qwen2Body
from tests.tiny import units_of_turns

READ, WRITE, UNITS = 3, 4, 16


def decoder_of(released_rules=False):
    torch.manual_seed(1)
    body = Qwen2Body(32, 2, 4, num_key_value_heads=2)
    decoder = SpeechDecoder(8, 20, 0, UNITS, body, schedule=(READ, WRITE), released_rules=released_rules)
    # Larger weights give choices that differ from step to step.
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(3)
    return decoder.eval()


DECODERS = {rules: decoder_of(rules) for rules in (False, True)}
NOTHING = (torch.zeros(0, 8), torch.zeros(0, dtype=torch.long))


def text_of(length, seed=0):
    source = torch.Generator().manual_seed(seed)
    return torch.randn(length, 8, generator=source), torch.randint(1, 20, (length,), generator=source)


def spoken(stream):
    """All that a stream writes now, in one piece for each reply."""
    written = [[] for _ in range(stream.count)]
    for block in stream.write():
        assert len(block) == stream.count and all(len(units) <= WRITE for units in block)
        for row, units in enumerate(block):
            written[row] += units.tolist()
    return written


def alone(decoder, text, decoding, seed):
    return torch.cat([*units_of_turns(decoder, [text], decoding, seed), NOTHING[1]]).tolist()


decodings = st.builds(
    UnitDecoding,
    temperature=st.sampled_from([0.0, 0.7, 1.5]),
    top_k=st.sampled_from([None, 1, 5, 50]),
    top_p=st.sampled_from([0.6, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.8]),
    repetition_window=st.integers(1, 6),
    units_per_token=st.sampled_from([None, 2.5]),
    spare_units=st.just(3),
    max_units=st.integers(0, 14),
)


@settings(max_examples=25, deadline=None)
@given(st.data(), st.booleans(), decodings, st.integers(0, 99))
def test_units_depend_on_no_cut_of_the_text(data, released_rules, decoding, seed):
    decoder, length = DECODERS[released_rules], data.draw(st.integers(1, 11))
    states, tokens = text_of(length, seed)
    cuts = sorted(data.draw(st.lists(st.integers(0, length), max_size=5)))
    stream = decoder.begin(1, decoding, [seed])
    written = []
    for start, end in zip([0, *cuts], [*cuts, length], strict=True):
        stream.read([states[start:end]], [tokens[start:end]], [False])
        if data.draw(st.booleans()):
            written += spoken(stream)[0]
    stream.read([NOTHING[0]], [NOTHING[1]], [True])
    written += spoken(stream)[0]
    assert stream.finished
    assert written == alone(decoder, (states, tokens), decoding, seed)


@settings(max_examples=25, deadline=None)
@given(st.data(), st.booleans(), decodings)
def test_units_depend_on_no_company(data, released_rules, decoding):
    decoder = DECODERS[released_rules]
    lengths = data.draw(st.lists(st.integers(0, 11), min_size=2, max_size=4))
    seeds = data.draw(st.lists(st.integers(0, 99), min_size=len(lengths), max_size=len(lengths)))
    texts = [text_of(length, seed) for length, seed in zip(lengths, seeds, strict=True)]
    dropped = data.draw(st.sampled_from([None, 0, 1]))
    stream = decoder.begin(len(texts), decoding, seeds)
    written, read = [[] for _ in texts], [0] * len(texts)
    while not stream.finished:
        new = [data.draw(st.integers(0, 5)) for _ in texts]
        pieces = []
        for row, (states, tokens) in enumerate(texts):
            pieces.append((states[read[row] : read[row] + new[row]], tokens[read[row] : read[row] + new[row]]))
            read[row] += new[row]
        ended = [at >= length for at, length in zip(read, lengths, strict=True)]
        stream.read([states for states, _ in pieces], [tokens for _, tokens in pieces], ended)
        for row, units in enumerate(spoken(stream)):
            written[row] += units
        if dropped is not None:
            stream.drop(dropped)
    for row, text in enumerate(texts):
        expected = alone(decoder, text, decoding, seeds[row])
        assert written[row] == (expected[: len(written[row])] if row == dropped else expected)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-4, 4), min_size=2, max_size=12),
    st.floats(0.2, 2),
    st.one_of(st.none(), st.integers(1, 12)),
    st.sampled_from([0.3, 0.8, 1.0]),
    st.sampled_from([1.0, 1.5]),
    st.data(),
)
def test_draws_have_the_probabilities_of_the_softmax(scores, temperature, top_k, top_p, penalty, data):
    scores = [round(score, 3) + index * 1e-4 for index, score in enumerate(scores)]
    seen = data.draw(st.lists(st.integers(0, len(scores) - 1), max_size=3))
    changed = list(scores)
    for index in set(seen):
        changed[index] = scores[index] / penalty if scores[index] > 0 else scores[index] * penalty
    likeliest = sorted(range(len(scores)), key=lambda index: -changed[index])[: top_k or len(scores)]
    weights = {index: math.exp(changed[index] / temperature) for index in likeliest}
    kept, reached = {}, 0.0
    for index in likeliest:
        if reached / sum(weights.values()) < top_p - 1e-5:
            kept[index] = weights[index]
        reached += weights[index]
    count = 4000
    decoding = UnitDecoding(temperature, top_k, top_p, penalty)
    recent = torch.tensor([seen + [len(scores)] * (3 - len(seen))]).expand(count, -1)
    uniform = (torch.arange(count) + 0.5) / count
    drawn = choose(torch.tensor([scores]).expand(count, -1), decoding, uniform, recent).tolist()
    for index in range(len(scores)):
        share = kept.get(index, 0.0) / sum(kept.values())
        assert drawn.count(index) / count == pytest.approx(share, abs=2 / count + 1e-5)


def test_seeds_give_draws_that_spread_as_the_scores_say():
    decoder, (states, tokens) = DECODERS[False], text_of(1)
    decoding = UnitDecoding(1.0, top_k=None, max_units=1)
    seeds = list(range(1500))
    stream = decoder.begin(len(seeds), decoding, seeds)
    stream.read([states] * len(seeds), [tokens] * len(seeds), [True] * len(seeds))
    (block,) = list(stream.write())
    counts = torch.bincount(torch.cat(block), minlength=UNITS)
    with torch.no_grad():
        rows, _ = decoder.sequence(states, tokens, torch.zeros(1, dtype=torch.long))
        logits = decoder.model(inputs_embeds=rows[None, :2]).logits[0, -1]
    shares = torch.cat([logits[decoder.separator_id + 1 :], logits[:1]]).softmax(0)[:UNITS]
    assert sum(len(units) for units in block) == counts.sum()
    # Five standard deviations.
    assert ((counts / len(seeds) - shares).abs() < 5 * (shares * (1 - shares) / len(seeds)).sqrt() + 1e-3).all()


def test_a_long_reply_is_what_whole_forwards_would_choose():
    # 83 turns and more positions than the cache begins with.
    decoder, (states, tokens) = DECODERS[False], text_of(250)
    units = torch.tensor(alone(decoder, (states, tokens), UnitDecoding(0.0, max_units=0), 0))
    assert len(units) == 332
    rows, labels = decoder.sequence(states, tokens, units)
    with torch.no_grad():
        logits = decoder.model(inputs_embeds=rows[None]).logits[0, :-1]
    chosen_from = logits[labels[1:] != -100][: len(units), decoder.separator_id + 1 :]
    chosen = chosen_from.gather(1, units[:, None])[:, 0]
    torch.testing.assert_close(chosen, chosen_from.max(1).values, rtol=0, atol=1e-3)


def test_a_cap_ends_what_would_run_on():
    decoder, text = DECODERS[False], text_of(7)
    free = alone(decoder, text, UnitDecoding(0.7, max_units=200), 0)
    # Seven tokens: two turns of four units, and what the cap leaves after them.
    for per_token, spare, most in ((2, 3, 17), (1, 0, 8), (3, 1, 22)):
        decoding = UnitDecoding(0.7, units_per_token=per_token, spare_units=spare, max_units=200)
        assert alone(decoder, text, decoding, 0) == free[:most]
    assert len(free) > 22


def test_replies_without_a_text_or_of_one_token():
    decoder = DECODERS[False]
    stream = decoder.begin(2, UnitDecoding(1.0, max_units=6))
    one = text_of(1)
    stream.read([NOTHING[0], one[0]], [NOTHING[1], one[1]], [True, True])
    silent, said = spoken(stream)
    assert silent == [] and said == alone(decoder, one, UnitDecoding(1.0, max_units=6), 0) and said
    assert stream.finished and list(stream.write()) == []


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_states_that_are_not_finite_are_named_and_nothing_is_taken_in(wrong):
    decoder, (states, tokens) = DECODERS[False], text_of(4)
    stream = decoder.begin(2, UnitDecoding(0.0, max_units=5))
    broken = states.clone()
    broken[2, 1] = wrong
    with pytest.raises(InputError, match="reply 1: its hidden states are not finite"):
        stream.read([states, broken], [tokens, tokens], [True, True])
    stream.read([states, states], [tokens, tokens], [True, True])
    first, second = spoken(stream)
    assert first == second == alone(decoder, (states, tokens), UnitDecoding(0.0, max_units=5), 0)


def test_a_stream_is_used_as_it_should_be():
    stream = DECODERS[False].begin(1)
    states, tokens = text_of(2)
    with pytest.raises(InputError, match="2 states, but 1 tokens"):
        stream.read([states], [tokens[:1]], [False])
    with pytest.raises(InputError, match="of 1 replies"):
        stream.read([states] * 2, [tokens] * 2, [False] * 2)
    stream.read([states], [tokens], [True])
    with pytest.raises(InputError, match="its text had ended"):
        stream.read([states], [tokens], [True])


def test_who_stops_waits_for_one_step_only(monkeypatch):
    decoder, (states, tokens) = DECODERS[False], text_of(9)
    asked = []

    def _stopped():
        asked.append(len(asked))
        return len(asked) > 6

    stream = decoder.begin(1, UnitDecoding(0.0, max_units=50), stopped=_stopped)
    stream.read([states], [tokens], [True])
    written = spoken(stream)[0]
    # One block of four steps, two of the next; the seventh look is the last.
    assert len(written) == WRITE and len(asked) == 7 and stream.finished


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.1}, {"top_k": 0}, {"repetition_penalty": 0.0},
        {"repetition_window": 0}, {"units_per_token": -1.0}, {"max_units": -1}, {"spare_units": -1},
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError, match="to be"):
        UnitDecoding(**options)


def test_packed_replies_have_the_loss_and_gradients_of_each_alone():
    decoder = decoder_of().train()
    lengths = [(5, 23), (1, 2), (9, 70), (4, 0)]
    replies = [(*text_of(t, t), torch.randint(UNITS, (u,))) for t, u in lengths]
    decoder(*zip(*replies, strict=True)).backward()
    packed = {name: parameter.grad.clone() for name, parameter in decoder.named_parameters()}
    loss = float(decoder(*zip(*replies, strict=True)).detach())
    decoder.zero_grad()
    total = sum(units + 1 for _, units in lengths)
    summed = torch.zeros(())
    for states, tokens, units in replies:
        rows, labels = decoder.sequence(states, tokens, units)
        logits = decoder.model(inputs_embeds=rows[None]).logits[0, :-1]
        # Text is no alternative where a unit or the end is learnt.
        first = decoder.separator_id + 1
        text = [token for token in range(first) if token != decoder.end_token_id]
        logits = logits.index_fill(1, torch.tensor(text), -torch.inf)
        summed = summed + cross_entropy(logits, labels[1:], ignore_index=-100, reduction="sum")
    (summed / total).backward()
    assert loss == pytest.approx(float(summed.detach()) / total, abs=1e-5)
    for name, parameter in decoder.named_parameters():
        torch.testing.assert_close(packed[name], parameter.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("unit", [-1, UNITS])
def test_units_that_the_decoder_does_not_know_are_named(unit):
    states, tokens = text_of(3)
    with pytest.raises(InputError, match=f"unit {unit} is none of the 16"):
        DECODERS[False]([states], [tokens], [torch.tensor([0, unit, 3])])


@pytest.mark.parametrize("change", ["in place", "in their place"])
def test_weights_that_change_between_replies_are_read_anew(change):
    decoder, text, decoding = decoder_of(), text_of(9), UnitDecoding(0.0, max_units=20)
    before = alone(decoder, text, decoding, 0)
    layers, drawn = decoder.model.model.layers, torch.Generator().manual_seed(3)
    other = {name: torch.randn(w.shape, generator=drawn) * 0.3 for name, w in layers.state_dict().items()}
    layers.load_state_dict(other, assign=change == "in their place")
    after = alone(decoder, text, decoding, 0)
    fresh = decoder_of()
    fresh.model.model.layers.load_state_dict(other)
    assert after == alone(fresh, text, decoding, 0) != before
