"""Checkpoints that see images too: their text model is the language model."""

import torch
from transformers import Gemma3Config, Gemma3ForCausalLM, Gemma3ForConditionalGeneration

from empathy_lightning.modules.language_model import LanguageModel, pack
from tests.chat_formats import GEMMA, tokenizer_of

IDS = [[5, 6, 7, 8, 9, 3, 4, 11], [5, 6, 12, 3]]


def gemma3(folder):
    """A tiny Gemma 3 as those of 4B and larger, with random weights, in its folder."""
    tokenizer = tokenizer_of(GEMMA)
    size = len(tokenizer)
    text = dict(
        vocab_size=size + 3, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=512, sliding_window=4, pad_token_id=0,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id,
        layer_types=["sliding_attention", "full_attention"],
    )  # fmt: skip
    vision = dict(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    images = dict(mm_tokens_per_image=4, image_token_index=size, boi_token_index=size + 1, eoi_token_index=size + 2)
    torch.manual_seed(0)
    model = Gemma3ForConditionalGeneration(Gemma3Config(text_config=text, vision_config=vision, **images))
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, 7]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model.eval()


def test_the_text_model_of_gemma_3_is_as_the_whole_model_is(tmp_path):
    whole = gemma3(tmp_path)
    text = LanguageModel.from_pretrained(str(tmp_path))
    assert type(text.model) is Gemma3ForCausalLM and not any("vision" in name for name, _ in text.named_parameters())
    assert text.stop_ids >= {7, text.tokenizer.eos_token_id}
    ids = torch.tensor(IDS[:1])
    expected = whole(input_ids=ids, labels=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)
    embeddings = text.embed(ids).detach().requires_grad_()
    states = text(embeddings, torch.ones_like(ids, dtype=torch.bool))
    loss = text.response_loss(states, ids)
    torch.testing.assert_close(states, expected.hidden_states[-1])
    torch.testing.assert_close(text.logits(states[0]), expected.logits[0])
    torch.testing.assert_close(loss, expected.loss)
    given = embeddings.detach().requires_grad_()
    own = whole(inputs_embeds=given, labels=ids, attention_mask=torch.ones_like(ids)).loss
    torch.testing.assert_close(torch.autograd.grad(loss, embeddings), torch.autograd.grad(own, given))


def test_its_replies_are_those_of_the_whole_model(tmp_path):
    whole = gemma3(tmp_path)
    text = LanguageModel.from_pretrained(str(tmp_path))
    replies = text.generate(*pack([text.embed(ids) for ids in IDS], left=True), max_new_tokens=9)
    stops = sorted(text.stop_ids)
    for ids, (reply, _) in zip(IDS, replies, strict=True):
        row = torch.tensor([ids])
        asked = {"input_ids": row, "attention_mask": torch.ones_like(row)}
        expected = whole.generate(**asked, max_new_tokens=9, do_sample=False, eos_token_id=stops, pad_token_id=0)
        assert expected[0, len(ids) :].tolist() == reply
