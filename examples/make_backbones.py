"""Make the two small backbones that the demo freezes: a Qwen2 language model and a Whisper encoder.

They stand for the pretrained models that a user downloads. Both learn from the
small world's training split only. Run on two CPU cores:

    python examples/make_backbones.py language-model --out new --steps 2000
    python examples/make_backbones.py speech-encoder --out new --steps 3000
    python examples/make_backbones.py speech-encoder --out newer --steps 2000 --start-from new/speech_encoder

The second needs the first (its CTC targets are the language model's word pieces; copy
``language_model`` into each folder), the third goes on from it with new utterances.
All arguments, time and figures are written to a README.json beside each model, and
so are those of the model that it started from.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import torch
import torchaudio
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.prompts import SPEECH_AND_EMOTION, SPEECH_ONLY, Prompt, response_ids
from empathy_lightning.small_world.espeak import render
from empathy_lightning.small_world.voices import voice
from empathy_lightning.small_world.world import (
    EMOTION_WORDS,
    draw_prosody,
    reply,
    sentence_of,
    sentences,
)
from empathy_lightning.utterance import EMOTIONS

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FILLERS = ("...", " um", " uh", ",")


def train_tokenizer(rng: random.Random, pool: list[Any]) -> PreTrainedTokenizerFast:
    """Byte-level BPE in Qwen's chat format, learned from the world's dialogues."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=640,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )

    def texts() -> Any:
        for sentence in pool[:6000]:
            emotion = rng.choice(EMOTIONS)
            yield f"user\n{sentence.text} um uh ...\nassistant\n{reply(sentence, emotion, rng)}"
            yield f"{sentence.text}(with a {emotion} emotional tone).{reply(sentence, None, rng)} {emotion}"

    tokenizer.train_from_iterator(texts(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHAT_TEMPLATE,
    )


def disfluent(ids: list[int], fillers: list[int], rng: random.Random) -> list[int]:
    """Stutter and hesitate, as people do: repeated pieces and fillers that a reply ignores."""
    repeat, filler = rng.uniform(0, 0.5), rng.uniform(0, 0.5)
    out: list[int] = []
    for token in ids:
        while rng.random() < filler:
            out.append(rng.choice(fillers))
        out.append(token)
        while rng.random() < repeat:
            out.append(token)
    return out


def dialogue(sentence: Any, tokenizer: Any, prompts: dict[str, list[Any]], rng: random.Random) -> tuple[list[int], int]:
    """One dialogue as token ids, and where its reply starts."""
    emotion = None if rng.random() < 0.25 else rng.choice(EMOTIONS)
    natural = rng.random() < 0.3
    said = sentence.text if emotion is None or not natural else f"{sentence.text}(with a {emotion} emotional tone)."
    words = tokenizer(said, add_special_tokens=False).input_ids
    if rng.random() < 0.7 and not (natural and emotion):
        words = disfluent(words, [tokenizer(f).input_ids[0] for f in FILLERS], rng)
    segments = prompts["plain" if emotion is None or natural else "toned"]
    ids: list[int] = []
    for segment in segments:
        if segment == "speech":
            ids += words
        elif segment == "emotion":
            ids += tokenizer(str(emotion), add_special_tokens=False).input_ids
        else:
            ids += segment
    return ids + response_ids(tokenizer, reply(sentence, emotion, rng)), len(ids)


@torch.no_grad()
def reply_accuracy(model: Any, tokenizer: Any, split: str, rng: random.Random, count: int = 250) -> dict[str, float]:
    """Shares of greedy replies to text that name the right emotion and the right content words."""
    prompt, right_emotion, right_content = Prompt(SPEECH_AND_EMOTION), 0, 0
    for sentence in rng.sample(list(sentences(split)), count):
        emotion = rng.choice(EMOTIONS)
        ids = torch.tensor([prompt.text_ids(tokenizer, speech=sentence.text, emotion=emotion)])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=48, do_sample=False)
        answer = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        found = sentence_of(answer)
        right_emotion += [w for w in EMOTION_WORDS.values() if w in answer] == [EMOTION_WORDS[emotion]]
        right_content += found is not None and found.content_words == sentence.content_words
    return {"emotion_accuracy": right_emotion / count, "content_accuracy": right_content / count}


def make_language_model(arguments: argparse.Namespace) -> None:
    """Train the language model on text dialogues in which the user's turn may name the tone."""
    out, steps, seed = arguments.out, arguments.steps, arguments.seed
    rng, begin = random.Random(seed), time.time()
    torch.manual_seed(seed)
    pool = list(sentences("train"))
    rng.shuffle(pool)
    tokenizer = train_tokenizer(rng, pool)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen2ForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.05)
    prompts = {
        "plain": Prompt(SPEECH_ONLY).segments(tokenizer),
        "toned": Prompt(SPEECH_AND_EMOTION).segments(tokenizer),
    }
    for step in (bar := tqdm(range(steps), desc="language model", mininterval=5)):
        rows = [dialogue(rng.choice(pool), tokenizer, prompts, rng) for _ in range(48)]
        ids = pad_sequence([torch.tensor(r) for r, _ in rows], batch_first=True, padding_value=tokenizer.pad_token_id)
        starts, lengths = torch.tensor([s for _, s in rows]), torch.tensor([len(r) for r, _ in rows])
        positions = torch.arange(ids.shape[1])
        supervised = (positions >= starts[:, None]) & (positions < lengths[:, None])
        embeds = model.get_input_embeddings()(ids)
        # Noise on what the user says makes room for embeddings that are not exactly words.
        noise = torch.rand(len(rows), 1, 1) * 0.5 * embeds.detach().std()
        embeds = embeds + noise * torch.randn_like(embeds) * ~supervised[..., None]
        mask = (positions < lengths[:, None]).long()
        hidden = model.model(inputs_embeds=embeds, attention_mask=mask).last_hidden_state[:, :-1]
        logits = model.lm_head(hidden[supervised[:, 1:]])
        loss = nn.functional.cross_entropy(logits, ids[supervised])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}")
        if step % 500 == 499:
            model.eval()
            print("\n", step + 1, reply_accuracy(model, tokenizer, "validation", random.Random(0), 50), flush=True)
            save_language_model(model, tokenizer, out / "language_model")
            model.train()
    model.eval()
    figures = reply_accuracy(model, tokenizer, "test", random.Random(0))
    save_language_model(model, tokenizer, out / "language_model")
    write_figures(out / "language_model", model, arguments, begin, figures)


def save_language_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write an ordinary transformers folder, weights in half precision."""
    state = {k: v.half() for k, v in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=state)
    tokenizer.save_pretrained(folder)


def write_figures(
    folder: Path, model: nn.Module, arguments: argparse.Namespace, begin: float, figures: dict[str, float]
) -> None:
    """State beside the weights how they were made, and from what."""
    earlier = None if arguments.start_from is None else arguments.start_from / "README.json"
    facts = {
        "made_by": "examples/make_backbones.py",
        "data": "synthetic: the small world's training split",
        "arguments": {key: str(value) if isinstance(value, Path) else value for key, value in vars(arguments).items()},
        "minutes": round((time.time() - begin) / 60, 1),
        "parameters": sum(p.numel() for p in model.parameters()),
        "held_out": figures,
        "started_from": json.loads(earlier.read_text()) if earlier is not None and earlier.is_file() else None,
    }
    (folder / "README.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(json.dumps(facts, indent=2))


Spoken = tuple[Tensor, str, Tensor]
"""Waveform, words, and how it was rendered: rate, pitch, pitch range and volume in comparable steps."""
MEAN = (4.2, 2.0, 1.9, 2.4)


def spoken(split: str, count: int, seed: int) -> list[Spoken]:
    """Render sentences of a split with its voices and all emotions; waveforms at 16 kHz in half precision."""
    rng = random.Random(seed)
    pool = list(sentences(split))
    resample = torchaudio.transforms.Resample(22_050, 16_000)
    out = []
    for _ in tqdm(range(count), desc=f"rendering {split}", mininterval=5):
        sentence, prosody = rng.choice(pool), draw_prosody(rng.choice(EMOTIONS), rng)
        waveform, _ = render(sentence.text, voice(split, rng, odd=True), prosody)
        target = (prosody.rate / 40, prosody.pitch / 25, prosody.pitch_range / 30, prosody.volume / 40)
        out.append(
            (resample(torch.from_numpy(waveform)).half(), sentence.text, torch.tensor(target) - torch.tensor(MEAN))
        )
    return out


def collate_spoken(rows: list[Spoken], tokenizer: Any) -> tuple[Tensor, Tensor, list[list[int]]]:
    """Right-padded waveforms, their lengths and the token ids said."""
    lengths = torch.tensor([len(w) for w, _, _ in rows])
    waveform = pad_sequence([w.float() for w, _, _ in rows], batch_first=True)
    return waveform, lengths, [tokenizer(t, add_special_tokens=False).input_ids for _, t, _ in rows]


def masked(masks: nn.Module, mel: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """SpecAugment on a spectrogram with its lengths."""
    return masks(mel), frames


@torch.no_grad()
def token_error_rate(encoder: SpeechEncoder, head: nn.Linear, tokenizer: Any, rows: list[Spoken]) -> float:
    """Edit distance of greedy CTC decoding over the number of word pieces said."""
    errors, total = 0, 0
    for index in range(0, len(rows), 32):
        waveform, lengths, targets = collate_spoken(rows[index : index + 32], tokenizer)
        heard = encoder(waveform, lengths)
        for path, mask, target in zip(head(heard.frames).argmax(-1), heard.mask, targets, strict=True):
            guess = [t for t in path[mask].unique_consecutive().tolist() if t != head.out_features - 1]
            errors += torchaudio.functional.edit_distance(guess, target)
            total += len(target)
    return errors / total


def make_speech_encoder(arguments: argparse.Namespace) -> None:
    """Pretrain the encoder with CTC over the language model's word pieces, and to tell the prosody."""
    out, steps, seed, start_from = arguments.out, arguments.steps, arguments.seed, arguments.start_from
    begin, rng = time.time(), random.Random(seed)
    torch.manual_seed(seed)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(out / "language_model")
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=80,
        d_model=192,
        encoder_layers=4,
        encoder_attention_heads=4,
        encoder_ffn_dim=640,
        decoder_layers=0,
        decoder_attention_heads=4,
        decoder_ffn_dim=64,
        max_target_positions=8,
        max_source_positions=1500,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        decoder_start_token_id=0,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    model = WhisperModel(config)
    head = nn.Linear(config.d_model, len(tokenizer) + 1)
    if start_from is not None:
        model.load_state_dict({k: v.float() for k, v in load_file(start_from / "model.safetensors").items()})
        if (start_from.parent / "ctc_head.pt").is_file():
            head.load_state_dict(torch.load(start_from.parent / "ctc_head.pt", weights_only=True))
    encoder = SpeechEncoder(config, frozen=False)
    encoder.encoder = model.encoder
    train, held_out = spoken("train", arguments.utterances, seed), spoken("validation", 400, seed + 1)
    print(f"{sum(len(w) for w, _, _ in train) / 16_000 / 3600:.1f} hours", flush=True)
    prosody_heads = nn.ModuleList(nn.Linear(config.d_model, 4) for _ in range(config.encoder_layers))
    modules = nn.ModuleList([encoder, head, prosody_heads])
    parameters = [p for p in modules.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=arguments.rate, betas=(0.9, 0.98), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, arguments.rate, total_steps=steps, pct_start=0.1)
    masks = nn.Sequential(torchaudio.transforms.FrequencyMasking(16), torchaudio.transforms.TimeMasking(20))
    encoder.log_mel.register_forward_hook(
        lambda module, inputs, output: masked(masks, *output) if encoder.training else output
    )
    order: list[int] = []
    for step in (bar := tqdm(range(steps), desc="speech encoder", mininterval=10)):
        if len(order) < 32:
            # Batches of like lengths: the shuffled order is sorted within pools of 16 batches.
            order = rng.sample(range(len(train)), 512)
            order.sort(key=lambda i: len(train[i][0]))
            order = [i for batch in rng.sample([order[k : k + 32] for k in range(0, 512, 32)], 16) for i in batch]
        rows, order = [train[i] for i in order[:32]], order[32:]
        waveform, lengths, targets = collate_spoken(rows, tokenizer)
        waveform = waveform + 0.003 * torch.rand(len(rows), 1) * torch.randn_like(waveform)
        heard = encoder(waveform, lengths)
        loss = nn.functional.ctc_loss(
            head(heard.frames).log_softmax(-1).transpose(0, 1),
            torch.tensor([t for target in targets for t in target]),
            heard.mask.sum(1),
            torch.tensor([len(t) for t in targets]),
            blank=head.out_features - 1,
            zero_infinity=True,
        )
        # What a large pretrained encoder keeps of how something was said, a small one has to be asked for.
        frames, targets_said = heard.mask.sum(1, keepdim=True), torch.stack([p for _, _, p in rows])
        for layer, prosody_head in zip(heard.layers, prosody_heads, strict=True):
            mean = (layer * heard.mask[..., None]).sum(1) / frames
            loss = loss + nn.functional.mse_loss(prosody_head(mean), targets_said)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}")
        if step % 500 == 499 or step == steps - 1:
            encoder.eval()
            error = token_error_rate(encoder, head, tokenizer, held_out)
            print("\n", step + 1, f"held-out token error rate {error:.4f}", flush=True)
            folder = out / "speech_encoder"
            model.save_pretrained(folder, state_dict={k: v.half() for k, v in model.state_dict().items()})
            WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
            torch.save(head.state_dict(), out / "ctc_head.pt")
            encoder.train()
    write_figures(out / "speech_encoder", model, arguments, begin, {"ctc_token_error_rate": error})


def main() -> None:
    """Read the command line and make one backbone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbone", choices=["language-model", "speech-encoder"])
    parser.add_argument("--out", type=Path, required=True, help="folder for both models")
    parser.add_argument("--steps", type=int, help="optimiser steps (default 4000)", default=4000)
    parser.add_argument("--utterances", type=int, default=8000, help="rendered utterances for the speech encoder")
    parser.add_argument("--start-from", type=Path, help="speech encoder folder whose weights to go on from")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="peak learning rate of the speech encoder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    make = make_language_model if arguments.backbone == "language-model" else make_speech_encoder
    make(arguments)


if __name__ == "__main__":
    main()
