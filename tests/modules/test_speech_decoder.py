import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from empathy_lightning.modules.fusion import GatedFusion, StatesAlone, SummedFusion
from empathy_lightning.modules.read_write import ReadWriteSchedule
from empathy_lightning.modules.speech_decoder import SpeechDecoder
from empathy_lightning.modules.unit_choice import UnitDecoding
from empathy_lightning.modules.unit_language_model import Qwen2Body
from empathy_lightning.parts import build, described
from tests.conftest import golden, golden_seeds
from tests.tiny import ids_of_turns, units_of_turns


@given(st.integers(1, 40), st.integers(1, 200), st.integers(1, 5), st.integers(1, 20))
def test_turns_cover_text_and_units_once_in_order(text, units, read, write):
    turns = ReadWriteSchedule(read, write).turns(text, units)
    assert [i for reading, _ in turns for i in range(*reading.indices(text))] == list(range(text))
    assert [i for _, writing in turns for i in range(*writing.indices(units))] == list(range(units))
    assert all(reading.stop - reading.start == read for reading, _ in turns[:-1])


TRAIN = ["gate_ffn", "gate_ffn_dim64", "sum_linear", "hidden_only_linear"]
GENERATE = [f"{form}_T{length}" for form in ("gate_ffn", "sum_linear") for length in (11, 9, 2)]


def our_name(key):
    """Our name of a weight of the reference's."""
    return f"fused.{key}" if key.startswith(("input_proj.", "gate.")) else key


def golden_decoder(facts, state):
    """A decoder built from the reference's configuration, with its weights under the original names."""
    values, ids, config = facts["config"], facts["token_ids"], facts["config"]["speech_generator"]
    ffn, inner = values["speech_generator_proj_type"] == "ffn", values["tts_ffn_dim_size"]
    kind = GatedFusion if values["add_gate_fusion"] else SummedFusion if values["add_token_embeddings"] else StatesAlone
    body = Qwen2Body(
        config["hidden_size"],
        config["num_hidden_layers"],
        config["num_attention_heads"],
        config["num_key_value_heads"],
        config["intermediate_size"],
        config["rope_theta"],
    )
    decoder = SpeechDecoder(
        values["hidden_size"],
        ids["sep"],
        ids["eos"],
        ids["n_units"],
        body,
        kind((None if inner < 0 else inner) if ffn else 0),
        values["stream_params"],
        released_rules=True,
    )
    decoder.load_state_dict({our_name(key): value for key, value in state.items()})
    return decoder.eval()


@pytest.mark.parametrize("name", TRAIN)
@pytest.mark.parametrize("folder", golden_seeds("freezeempath"), ids=str)
def test_golden_training_sequence_loss_and_gradients(folder, name):
    tensors, state = golden(folder, f"d_train_{name}")
    facts = json.loads((folder / f"d_train_{name}.json").read_text())
    decoder = golden_decoder(facts, state)
    states, tokens, units, reply = [], [], [], 0
    for row, runs in enumerate(facts["label_segments_start_lastinclusive"]):
        for start, last in runs:
            states.append(tensors["input.hidden_states"][row, start - 1 : last - 1])
            tokens.append(tensors["input.labels"][row, start:last])
            row_units = tensors["input.units"][reply]
            units.append(row_units[row_units >= 0])
            reply += 1
    for index in range(len(states)):
        rows = decoder.fuse(states[index], tokens[index])
        torch.testing.assert_close(rows, tensors[f"mid.text_rows.{index}"], rtol=2e-5, atol=2e-5)
        rows, labels = decoder.sequence(states[index], tokens[index], units[index])
        torch.testing.assert_close(rows, tensors["output.inputs_embeds"][index, : len(rows)], rtol=2e-5, atol=2e-5)
        assert torch.equal(labels, tensors["output.labels"][index, : len(rows)])
        logits = decoder.model(inputs_embeds=rows[None]).logits[0]
        torch.testing.assert_close(logits, tensors["output.logits"][index, : len(rows)], rtol=1e-4, atol=1e-4)
    loss = decoder(states, tokens, units)
    torch.testing.assert_close(loss, tensors["output.loss"][0], rtol=1e-5, atol=1e-5)
    loss.backward()
    gradients = {key.removeprefix("grad."): value for key, value in tensors.items() if key.startswith("grad.")}
    assert gradients
    for key, expected in gradients.items():
        torch.testing.assert_close(decoder.get_parameter(our_name(key)).grad, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("name", GENERATE)
@pytest.mark.parametrize("folder", golden_seeds("freezeempath"), ids=str)
def test_golden_greedy_units_turn_by_turn(folder, name, pieces):
    tensors, state = golden(folder, f"d_generate_{name}")
    facts = json.loads((folder / f"d_generate_{name}.json").read_text())
    decoder = golden_decoder(facts, state)
    text = list(zip(tensors["input.hidden_states"].split(pieces), tensors["input.tokens"].split(pieces), strict=True))
    turns = [turn.tolist() for turn in ids_of_turns(decoder, text, UnitDecoding(0.0, max_units=1024))]
    assert turns == [chunk["generated_ids"] for chunk in facts["chunks"]]
    spoken = [
        [unit for word in chunk["decoded"].split() if (unit := word.strip("<>")).isdigit()] for chunk in facts["chunks"]
    ]
    units = [
        [str(unit) for unit in turn.tolist()]
        for turn in units_of_turns(decoder, text, UnitDecoding(0.0, max_units=1024))
    ]
    assert units == spoken


def make(schedule=(3, 4)):
    torch.manual_seed(1)
    return SpeechDecoder(8, 20, 0, num_units=16, body=Qwen2Body(32, 2), schedule=schedule).eval()


def test_units_are_learnt_among_what_may_be_written():
    decoder = make()
    states, tokens = [torch.randn(4, 8), torch.randn(2, 8)], [torch.arange(1, 5), torch.arange(6, 8)]
    units = [torch.randint(0, 16, (9,)), torch.randint(0, 16, (3,))]
    losses = []
    for reply in zip(states, tokens, units, strict=True):
        rows, labels = decoder.sequence(*reply)
        logits = decoder.model(inputs_embeds=rows[None]).logits[0, :-1]
        # Text is 0 to 19 but for the end marker 0, the end of the text 20.
        logits[:, 1:21] = -torch.inf
        chosen = labels[1:] >= 0
        losses.append(torch.nn.functional.cross_entropy(logits[chosen], labels[1:][chosen], reduction="none"))
    torch.testing.assert_close(decoder(states, tokens, units), torch.cat(losses).mean())


def test_streamed_units_are_what_one_whole_forward_would_choose():
    decoder = make()
    states, tokens = torch.randn(7, 8), torch.randint(1, 20, (7,))
    turns = units_of_turns(decoder, [(states, tokens)], UnitDecoding(0.0, max_units=9))
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
    whole = torch.cat(units_of_turns(decoder, [(states, tokens)], UnitDecoding(0.0, max_units=9)))
    pieces = [(states[i : i + 1], tokens[i : i + 1]) for i in range(8)]
    assert torch.equal(whole, torch.cat(units_of_turns(decoder, pieces, UnitDecoding(0.0, max_units=9))))


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
    assert torch.equal(torch.cat(units_of_turns(decoder, [(states, tokens)], UnitDecoding(0.0, max_units=30))), units)


def test_few_likeliest_units_are_drawn_by_their_seed():
    decoder = make()
    states, tokens = torch.randn(7, 8), torch.randint(1, 20, (7,))

    def drawn(seed, top_k):
        return torch.cat(units_of_turns(decoder, [(states, tokens)], UnitDecoding(1.0, top_k, max_units=9), seed))

    greedy = torch.cat(units_of_turns(decoder, [(states, tokens)], UnitDecoding(0.0, max_units=9)))
    assert torch.equal(drawn(0, 1), greedy)
    assert torch.equal(drawn(0, 5), drawn(0, 5)) and not torch.equal(drawn(0, None), greedy)


def test_it_begins_as_a_language_model_with_rows_for_the_units(backbones, language_model):
    folder = str(backbones / "language_model")
    decoder = SpeechDecoder.from_language_model(folder, 8, 0, 16, 310, schedule=(3, 4)).eval()
    ids = torch.tensor([[5, 9, 40, 7]])
    text = language_model.model.config.vocab_size
    with torch.no_grad():
        ours, theirs = decoder.model(ids).logits, language_model.model(ids).logits
    torch.testing.assert_close(ours[..., :text], theirs)
    rows = decoder.model.get_input_embeddings().weight.detach()
    assert decoder.separator_id == 310 and len(rows) == 310 + 1 + 16
    # Rows for units look like rows of words: none is likelier than all words only because it is new.
    assert 0.3 < rows[text:].std() / rows[:text].std() < 3
    again = build(described(decoder))
    again.load_state_dict(decoder.state_dict())
    states, tokens = torch.randn(5, 8), torch.arange(1, 6)
    spoken = [
        torch.cat(units_of_turns(d.eval(), [(states, tokens)], UnitDecoding(0.0, max_units=9)))
        for d in (decoder, again)
    ]
    assert torch.equal(*spoken)


def test_models_that_cannot_write_units_are_refused(backbones, tmp_path):
    with pytest.raises(ValueError, match="smaller than the vocabulary"):
        SpeechDecoder.from_language_model(str(backbones / "language_model"), 8, 0, text_vocab_size=20)
    with pytest.raises(OSError, match="no model folder"):
        SpeechDecoder.from_language_model(str(tmp_path / "none"), 8, 0)
    config = json.loads((backbones / "language_model" / "config.json").read_text())
    for name, change in (("untied", {"tie_word_embeddings": False}), ("llama", {"model_type": "llama"})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match="must be a Qwen2 model that ties"):
            SpeechDecoder.from_language_model(str(tmp_path / name), 8, 0)
