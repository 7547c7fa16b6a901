import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Qwen2Config, Qwen2ForCausalLM

from empathy_lightning.modules.speech_decoder import ReadWriteSchedule, SpeechDecoder
from tests.conftest import golden, golden_seeds


@given(st.integers(1, 40), st.integers(1, 200), st.integers(1, 5), st.integers(1, 20))
def test_turns_cover_text_and_units_once_in_order(text, units, read, write):
    turns = ReadWriteSchedule(read, write).turns(text, units)
    assert [i for reading, _ in turns for i in range(*reading.indices(text))] == list(range(text))
    assert [i for _, writing in turns for i in range(*writing.indices(units))] == list(range(units))
    assert all(reading.stop - reading.start == read for reading, _ in turns[:-1])


@pytest.mark.parametrize("folder", golden_seeds("freezeempath"), ids=str)
def test_golden_training_sequence_and_loss(folder):
    tensors, state = golden(folder, "d_train_gate_ffn")
    facts = json.loads((folder / "d_train_gate_ffn.json").read_text())
    sizes, ids = facts["config"], facts["token_ids"]
    config = sizes["speech_generator"]
    decoder = SpeechDecoder(
        sizes["hidden_size"],
        ids["sep"],
        ids["eos"],
        ids["n_units"],
        config["hidden_size"],
        schedule=sizes["stream_params"],
    )
    decoder.model = Qwen2ForCausalLM(Qwen2Config(**config))
    decoder.load_state_dict(state)
    states, tokens, units, reply = [], [], [], 0
    for row, runs in enumerate(facts["label_segments_start_lastinclusive"]):
        for start, last in runs:
            states.append(tensors["input.hidden_states"][row, start - 1 : last - 1])
            tokens.append(tensors["input.labels"][row, start:last])
            row_units = tensors["input.units"][reply]
            units.append(row_units[row_units >= 0])
            reply += 1
    for index, (one_state, one_token) in enumerate(zip(states, tokens, strict=True)):
        expected = tensors[f"mid.text_rows.{index}"]
        torch.testing.assert_close(decoder.fuse(one_state, one_token), expected, rtol=2e-5, atol=2e-5)
    for index in range(len(states)):
        rows, labels = decoder.sequence(states[index], tokens[index], units[index])
        torch.testing.assert_close(rows, tensors["output.inputs_embeds"][index, : len(rows)], rtol=2e-5, atol=2e-5)
        assert torch.equal(labels, tensors["output.labels"][index, : len(rows)])
    torch.testing.assert_close(decoder(states, tokens, units), tensors["output.loss"][0], rtol=1e-5, atol=1e-5)


def make(schedule=(3, 4)):
    torch.manual_seed(1)
    return SpeechDecoder(8, 20, 0, num_units=16, hidden_size=32, num_layers=2, schedule=schedule).eval()


def test_streamed_units_are_what_one_whole_forward_would_choose():
    decoder = make()
    states, tokens = torch.randn(7, 8), torch.randint(1, 20, (7,))
    turns = list(decoder.stream([(states, tokens)], max_units=9))
    assert [len(turn) for turn in turns[:2]] == [4, 4]
    units = torch.cat(turns)
    assert (units >= 0).all() and (units < 16).all()
    rows, labels = decoder.sequence(states, tokens, units)
    with torch.no_grad():
        logits = decoder.model(inputs_embeds=rows[None]).logits[0, :-1]
    supervised = labels[1:] != -100
    logits[:, : decoder.separator_id + 1] = -torch.inf
    chosen = logits[supervised].argmax(-1)[: len(units)] - decoder.separator_id - 1
    assert torch.equal(chosen, units)


def test_text_in_pieces_gives_the_units_of_text_at_once():
    decoder = make()
    states, tokens = torch.randn(8, 8), torch.randint(1, 20, (8,))
    whole = torch.cat(list(decoder.stream([(states, tokens)], max_units=9)))
    pieces = [(states[i : i + 1], tokens[i : i + 1]) for i in range(8)]
    assert torch.equal(whole, torch.cat(list(decoder.stream(pieces, max_units=9))))


def test_it_learns_a_reply_by_heart():
    decoder = make().train()
    states, tokens, units = torch.randn(5, 8), torch.arange(1, 6), torch.arange(11) % 16
    optimizer = torch.optim.AdamW(decoder.parameters(), 5e-3)
    for _ in range(80):
        loss = decoder([states], [tokens], [units])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    decoder.eval()
    assert torch.equal(torch.cat(list(decoder.stream([(states, tokens)], max_units=30))), units)
