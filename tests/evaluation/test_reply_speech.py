"""A tiny Whisper learns two recordings by heart, so that what it must write down is known."""

import functools
import json
import shutil
from dataclasses import replace

import pytest
import soundfile
import torch
from tokenizers import pre_tokenizers
from torchmetrics.functional.text import char_error_rate, word_error_rate
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from empathy_lightning.__main__ import main
from empathy_lightning.audio import write
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.evaluation.figures import figures_of
from empathy_lightning.evaluation.measured import Measured
from empathy_lightning.evaluation.measures.exists_match import ExistsMatch
from empathy_lightning.evaluation.measures.word_errors import WordErrors
from empathy_lightning.evaluation.reply_speech import Heard, SpeechRecogniser
from empathy_lightning.utterance import Utterance

WINDOW = 2.0
"""Seconds that the tiny model hears at once; the real ones hear 30."""

SPECIALS = [
    "<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|zh|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>",
    "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
]  # fmt: skip
SAID = {"low": ("en", "Your colour is grey."), "high": ("zh", "你好。")}


def tone(name, seconds=1.0):
    time = torch.arange(round(seconds * 16_000)) / 16_000
    return 0.3 * torch.sin(2 * torch.pi * (300 if name == "low" else 1_500) * time)


def processor(folder):
    """Bytes, and Whisper's own special tokens and timestamps, in its tokenizer and feature extractor."""
    spelling = folder / "normalizer.json"
    spelling.write_text(json.dumps({"colour": "color", "grey": "gray"}))
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *SPECIALS]
    tokenizer = WhisperTokenizer({token: index for index, token in enumerate(tokens)}, [], normalizer_file=spelling)
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIALS[1:]})
    tokenizer.add_tokens([f"<|{0.02 * step:.2f}|>" for step in range(round(WINDOW / 0.02) + 1)])
    return WhisperProcessor(WhisperFeatureExtractor(chunk_length=int(WINDOW)), tokenizer)


def tiny(processor, **changed):
    ids = processor.tokenizer.convert_tokens_to_ids
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(processor.tokenizer), d_model=64, encoder_layers=1, decoder_layers=1,
            encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64,
            max_source_positions=round(WINDOW * 50), max_target_positions=64, pad_token_id=ids("<|endoftext|>"),
            bos_token_id=ids("<|endoftext|>"), eos_token_id=ids("<|endoftext|>"),
            decoder_start_token_id=ids("<|startoftranscript|>"), begin_suppress_tokens=None, suppress_tokens=None,
        )
    )  # fmt: skip
    end, start, silent = (ids(f"<|{name}|>") for name in ("endoftext", "startoftranscript", "notimestamps"))
    model.generation_config = GenerationConfig(
        pad_token_id=end, bos_token_id=end, eos_token_id=end, decoder_start_token_id=start, max_length=64,
        no_timestamps_token_id=silent, return_timestamps=False, **changed,
    )  # fmt: skip
    return model


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """Folder of a Whisper that has learned what the two tones say, with and without timestamps, and their languages."""
    folder = tmp_path_factory.mktemp("whisper")
    torch.manual_seed(0)
    parts = processor(folder)
    ids = parts.tokenizer.convert_tokens_to_ids
    languages = {token: ids(token) for token in ("<|en|>", "<|zh|>")}
    tasks = {task: ids(f"<|{task}|>") for task in ("translate", "transcribe")}
    model = tiny(parts, is_multilingual=True, lang_to_id=languages, task_to_id=tasks)
    rows, waves = [], []
    for name, (language, text) in SAID.items():
        # A phrase begins with a space, as Whisper's do.
        words = parts.tokenizer(f" {text}", add_special_tokens=False).input_ids
        start = ids(["<|startoftranscript|>", f"<|{language}|>", "<|transcribe|>"])
        times = ids(["<|0.00|>", f"<|{WINDOW:.2f}|>"])
        for row in ([*start, ids("<|notimestamps|>"), *words], [*start, times[0], *words, times[1]]):
            rows.append(torch.tensor([*row, ids("<|endoftext|>")]))
            waves.append(tone(name).numpy())
    features = parts.feature_extractor(waves, sampling_rate=16_000, return_tensors="pt").input_features
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=ids("<|endoftext|>"))
    labels = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100)
    # Either prompt is given when it writes; what follows the language is not to be guessed.
    labels[:, 3] = -100
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(150):
        logits = model(features, decoder_input_ids=tokens[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.save_pretrained(folder / "model")
    parts.save_pretrained(folder / "model")
    shutil.copy(folder / "normalizer.json", folder / "model")
    return folder / "model"


def spoken(folder, rows):
    """A manifest of replies; each row is its text, the tone that it is spoken as (or None) and further fields."""
    utterances = []
    for index, (text, name, fields) in enumerate(rows):
        path = None if name is None else str(folder / f"{index}.wav")
        if name is not None:
            write(path, tone(name))
        utterances.append(
            Utterance(str(index), "c", "a.wav", split="test", response=text, response_path=path, **fields)
        )
    write_manifest(folder / "replies.jsonl", utterances)
    return folder / "replies.jsonl"


def command(manifest, asr, *more):
    return ["evaluate", "run", "--replies", str(manifest), "--out", str(manifest.with_suffix("")),
            "--measures", "word_errors", f"asr={asr}", *map(str, more)]  # fmt: skip


def evaluate(manifest, asr, *more):
    """Rows and figures of the word errors."""
    assert main(command(manifest, asr, *more)) == 0
    folder = manifest.with_suffix("")
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    held = json.loads((folder / "metrics.json").read_text())["suites"][manifest.stem]["measures"]["word_errors"]
    return [line["measures"]["word_errors"] for line in lines], held


def distance(a, b):
    """Levenshtein's recursion as it stands in the textbooks."""

    @functools.cache
    def _of(i, j):
        if not i or not j:
            return i + j
        return min(_of(i - 1, j) + 1, _of(i, j - 1) + 1, _of(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return _of(len(a), len(b))


def test_every_reply_is_written_down_and_its_errors_counted(whisper, tmp_path, capsys):
    rows = [
        ("Your COLOR is gray!", "low", {"language": "en-GB"}),  # British spelling, case and marks are no errors.
        ("Your house is very grey", "low", {"language": "en"}),  # one other word, one left out
        ("你好吗", "high", {"language": "zh"}),  # a character left out
        ("Nothing is heard of this.", None, {}),
    ]
    scores, held = evaluate(spoken(tmp_path, rows), whisper)
    assert scores[3] is None and [row["transcript"] for row in scores[:3]] == [SAID["low"][1]] * 2 + [SAID["high"][1]]
    assert [(row["words"], row["word_errors"]) for row in scores[:3]] == [(4, 0), (5, 2), (3, 1)]
    own, heard = "your house is very gray", "your color is gray"
    assert (scores[1]["characters"], scores[1]["character_errors"]) == (len(own), distance(own, heard))
    assert (scores[2]["characters"], scores[2]["character_errors"]) == (3, 1)
    assert [row["word_error_rate"] for row in scores[:3]] == [0, 2 / 5, 1 / 3]
    speech = held["figures"]
    assert (speech["without_response_path"], speech["unreadable"]) == (1, 0)
    # Over all words, not the mean of the three rates; Chinese characters are its words.
    assert speech["word_error_rate"]["value"] == pytest.approx(3 / 12, abs=1e-6)
    assert speech["word_error_rate"]["low"] == 0 and speech["word_error_rate"]["high"] == pytest.approx(2 / 5)
    english = (["your color is gray"] * 2, ["your color is gray", own])
    assert speech["word_error_rate_en"] == pytest.approx(float(word_error_rate(*english)), abs=1e-6)
    assert speech["character_error_rate_en"] == pytest.approx(float(char_error_rate(*english)), abs=1e-6)
    assert speech["word_error_rate_zh"] == speech["character_error_rate_zh"] == pytest.approx(1 / 3, abs=1e-6)
    assert speech["words_a_second"]["value"] == pytest.approx(12 / 3)
    assert "| word error rate | 0.250 [0.000, 0.400] |" in capsys.readouterr().out


def test_a_language_is_stated_or_heard(whisper, tmp_path):
    rows = [("你好", "high", {}), (SAID["low"][1], "low", {}), ("你好", "high", {"language": "tlh"})]
    manifest = spoken(tmp_path, rows)
    scores, _ = evaluate(manifest, whisper)
    assert [(row["language"], row["word_errors"]) for row in scores] == [("zh", 0), ("en", 0), ("zh", 0)]
    stated = spoken(tmp_path, [(text, name, {"language": "en"}) for text, name, _ in rows])
    for more, expected in (((), ["en"] * 3), (("asr_language=auto",), ["zh", "en", "zh"]),
                           (("asr_language=Chinese",), ["zh"] * 3)):  # fmt: skip
        scores, _ = evaluate(stated, whisper, *more)
        assert [row["language"] for row in scores] == expected


def test_speech_beyond_the_window_is_heard_to_its_end(whisper, tmp_path):
    manifest = spoken(tmp_path, [("x", "low", {"language": "en"})] * 4)
    pause = torch.zeros(16_000)
    write(tmp_path / "1.wav", torch.cat([tone("low"), pause, tone("low")]))
    write(tmp_path / "2.wav", torch.cat([tone("low"), pause] * 3))
    scores, _ = evaluate(manifest, whisper)
    assert [row["seconds"] for row in scores] == [1, 3, 6, 1]
    assert [row["transcript"].split().count("grey.") for row in scores] == [1, 2, 3, 1]
    recogniser = SpeechRecogniser(str(whisper), batch_size=1)
    (long,) = recogniser.transcribe([torch.cat([tone("low"), pause, tone("low")])], ["en"])
    assert long[0] == scores[1]["transcript"]


def test_the_batch_changes_nothing(whisper, tmp_path):
    waves = [tone("low"), tone("high", 0.7), tone("low", 1.5), tone("high")]
    recogniser = SpeechRecogniser(str(whisper))
    languages = [None, "zh", "en", None]
    alone = [recogniser.transcribe([wave], [code])[0] for wave, code in zip(waves, languages, strict=True)]
    assert recogniser.transcribe(waves, languages) == alone


def test_errors_are_pooled_over_words():
    generator = torch.Generator().manual_seed(0)
    recogniser = SpeechRecogniser.__new__(SpeechRecogniser)
    recogniser.english = recogniser.basic = lambda text: text
    pairs = []
    for _ in range(40):
        lengths = torch.randint(1, 9, (2,), generator=generator).tolist()
        pairs.append(
            [" ".join(f"w{int(torch.randint(0, 5, (), generator=generator))}" for _ in range(n)) for n in lengths]
        )
    found = [recogniser.compare(reply, transcript, "de", 2.0) for reply, transcript in pairs]
    for heard, (reply, transcript) in zip(found, pairs, strict=True):
        assert heard.word_errors == distance(reply.split(), transcript.split())
        assert heard.character_errors == distance(reply, transcript)
    replies, transcripts = zip(*pairs, strict=True)
    figures = pooled(found)
    assert figures["word_error_rate"]["value"] == pytest.approx(float(word_error_rate(transcripts, replies)), abs=1e-6)
    expected = float(char_error_rate(transcripts, replies))
    assert figures["character_error_rate"]["value"] == pytest.approx(expected, abs=1e-6)
    mean = sum(heard.word_error_rate for heard in found) / 40
    assert abs(figures["word_error_rate"]["value"] - mean) > 0.01 and "word_error_rate_de" not in figures


def pooled(found):
    """Figures of what was heard in replies."""
    rows = [{"word_error_rate": heard.word_error_rate, **vars(heard)} for heard in found]
    replies = [Utterance(str(index), "c", "a.wav", response="x") for index in range(len(rows))]
    return figures_of(WordErrors, replies, Measured(rows, {}), "none")


def test_text_without_words_has_no_rate_but_its_errors_count():
    found = [Heard("Thank you.", "en", 1.0, 0, 2, 0, 9), Heard("yes", "en", 1.0, 1, 0, 3, 0)]
    assert found[0].word_error_rate is None
    assert pooled(found)["word_error_rate"]["value"] == 2
    assert "word_error_rate" not in pooled(found[:1])


def test_typesetters_apostrophes_are_no_errors(whisper):
    recogniser = SpeechRecogniser(str(whisper))
    assert recogniser.compare("I\u2019m twenty-one, it\u2019s fine.", "I am 21. It's fine", "en", 1.0).word_errors == 0
    thai = recogniser.compare("abc d", "abd", "th", 1.0)
    assert (thai.words, thai.word_errors, thai.characters, thai.character_errors) == (4, 1, 4, 1)


def test_two_systems_are_compared_by_their_word_errors(whisper, tmp_path):
    ours = [("Your colour is grey", "Your house is grey")[i % 3 == 0] for i in range(9)] + ["Your", "unheard"]
    theirs = [("His colour was grey", "Your colour is grey")[i % 4 == 0] for i in range(9)] + ["Your colour", "x"]
    for name, texts in (("ours", ours), ("theirs", theirs)):
        (tmp_path / name).mkdir()
        rows = [(t, None if t == "unheard" else "low", {"language": "en", "suite": "s"}) for t in texts]
        manifest = spoken(tmp_path / name, rows)
        assert main([*command(manifest, whisper)[:4], "--out", str(tmp_path / f"{name}_out"),
                     "--measures", "word_errors", f"asr={whisper}"]) == 0  # fmt: skip
    folders = [str(tmp_path / f"{name}_out") for name in ("ours", "theirs")]
    assert main(["evaluate", "compare", *folders, "--test=wilcoxon", "--out", str(tmp_path / "c.json")]) == 0
    row = next(r for r in json.loads((tmp_path / "c.json").read_text()) if r["figure"] == "word_error_rate")
    counts = [[(distance(text.lower().split(), ["your", "colour", "is", "grey"]), len(text.split()))
               for text in texts[:10]] for texts in (ours, theirs)]  # fmt: skip
    rates = [sum(errors for errors, _ in of) / sum(words for _, words in of) for of in counts]
    # Of the word errors as of a ratio, whose parts no reply is compared by alone.
    assert (row["pairs"], row["test"]) == (10, "swapped answers")
    assert (row["own"], row["other"]) == pytest.approx(tuple(rates), abs=1e-6)
    assert row["difference"] == pytest.approx(rates[0] - rates[1], abs=1e-6) and 0 < row["p"] < 1


def test_what_cannot_be_read_is_counted(whisper, tmp_path):
    manifest = spoken(tmp_path, [(SAID["low"][1], "low", {"language": "en"})] * 4)
    (tmp_path / "1.wav").unlink()
    (tmp_path / "2.wav").write_text("no sound")
    scores, held = evaluate(manifest, whisper)
    assert ["unreadable" in row for row in scores] == [False, True, True, False]
    assert "1.wav: no such file" in scores[1]["unreadable"] and "2.wav" in scores[2]["unreadable"]
    assert held["figures"]["unreadable"] == 2 and held["figures"]["word_error_rate"]["replies"] == 2
    # Headers say that there is speech; the samples say otherwise.
    soundfile.write(tmp_path / "0.wav", torch.full((16_000,), torch.nan).numpy(), 16_000, "FLOAT")
    (tmp_path / "3.wav").unlink()
    scores, held = evaluate(manifest, whisper)
    assert held["figures"]["unreadable"] == 4 and "word_error_rate" not in held["figures"]
    assert all(".wav: " in row["unreadable"] for row in scores)


def test_a_model_for_english_alone_has_no_languages(tmp_path):
    parts = processor(tmp_path)
    tiny(parts, is_multilingual=False).save_pretrained(tmp_path / "model")
    parts.save_pretrained(tmp_path / "model")
    recogniser = SpeechRecogniser(str(tmp_path / "model"))
    (heard,) = recogniser.transcribe([tone("low")], [recogniser._known("de")])
    assert heard[1] == "en"


def test_a_folder_without_spellings_still_measures(whisper, tmp_path):
    for place, errors in (shutil.copytree(whisper, tmp_path / "copy"), 0), (tmp_path / "copy", 1):
        assert SpeechRecogniser(str(place)).compare("The colour.", "the color", "en", 1.0).word_errors == errors
        (place / "normalizer.json").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("asr", "more", "reason"),
    [
        ("/nowhere", [], "no model folder at /nowhere"),
        ("speech_encoder", ["asr_language=en"], "cannot be loaded"),
        ("language_model", [], "it is a qwen2"),
        ("whisper", ["asr_language=tlh"], "does not know the language tlh"),
    ],
)
def test_bad_choices_are_one_line(whisper, backbones, tmp_path, capsys, asr, more, reason):
    manifest = spoken(tmp_path, [("x", "low", {})])
    places = {"whisper": whisper, **{name: backbones / name for name in ("speech_encoder", "language_model")}}
    assert main(command(manifest, places.get(asr, asr), *more)) == 2
    assert reason in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "replies/metrics.json").exists()


def test_replies_without_speech_are_not_heard(whisper, tmp_path, capsys):
    assert main(command(spoken(tmp_path, [("x", None, {})]), whisper)) == 1
    assert "missing: replies: word_errors: no reply has response_path" in capsys.readouterr().out


def test_another_recogniser_or_recording_is_heard_anew(whisper, tmp_path):
    manifest = spoken(tmp_path, [("Hello.", "low", {"language": "en"})])
    shutil.copytree(whisper, tmp_path / "whisper")
    first, held = evaluate(manifest, tmp_path / "whisper")
    config = tmp_path / "whisper" / "config.json"
    config.write_text(config.read_text() + " ")
    _, other = evaluate(manifest, tmp_path / "whisper")
    assert {name for name in held["made_from"] if held["made_from"][name] != other["made_from"][name]} == {"asr"}
    write(tmp_path / "0.wav", tone("high"))
    second, _ = evaluate(manifest, tmp_path / "whisper", "asr_language=auto")
    assert (first[0]["transcript"], second[0]["transcript"]) == (SAID["low"][1], SAID["high"][1])


GLIDE = 0.3 * torch.sin(2 * torch.pi * torch.linspace(0, 1, 16_000).pow(2) * 2_000)


@pytest.fixture(scope="module")
def ctc(tmp_path_factory):
    """Folder of a wav2vec 2.0 with CTC that has learned what the glide says."""
    from transformers import (
        Wav2Vec2Config,
        Wav2Vec2CTCTokenizer,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForCTC,
        Wav2Vec2Processor,
    )

    folder = tmp_path_factory.mktemp("ctc")
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz"]
    (folder / "vocab.json").write_text(json.dumps({letter: index for index, letter in enumerate(letters)}))
    tokenizer = Wav2Vec2CTCTokenizer(folder / "vocab.json")
    parts = Wav2Vec2Processor(Wav2Vec2FeatureExtractor(return_attention_mask=True), tokenizer)
    torch.manual_seed(0)
    sizes = {"conv_dim": (16, 16), "conv_stride": (20, 16), "conv_kernel": (40, 16)}
    config = Wav2Vec2Config(
        vocab_size=len(letters), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, apply_spec_augment=False, pad_token_id=0,
        num_feat_extract_layers=2, ctc_loss_reduction="mean", do_stable_layer_norm=True, feat_extract_norm="layer",
        **sizes,
    )  # fmt: skip
    model = Wav2Vec2ForCTC(config).train()
    inputs = parts(GLIDE.numpy(), sampling_rate=16_000, return_tensors="pt")
    # Three frames of each letter, then one of the blank.
    frames = [index for letter in tokenizer("gray sky").input_ids for index in (letter, letter, letter, 0)]
    targets = torch.tensor([*frames, *[0] * (model(**inputs).logits.shape[1] - len(frames))])
    optimiser = torch.optim.AdamW(model.parameters(), 5e-3)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(model(**inputs).logits[0], targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.save_pretrained(folder)
    parts.save_pretrained(folder)
    return folder


def test_a_recogniser_other_than_whisper_is_asked_as_it_is(ctc, tmp_path, capsys):
    rows = [("Gray sky!", "low", {"language": "en"}), ("The grey sky", "low", {"language": "en"})]
    spoken(tmp_path, rows)
    for index in range(2):
        write(tmp_path / f"{index}.wav", GLIDE)
    scores, held = evaluate(tmp_path / "replies.jsonl", ctc)
    assert [row["transcript"] for row in scores] == ["gray sky"] * 2
    # Its folder brings no table of British spellings, so "grey" is another word.
    assert [(row["words"], row["word_errors"]) for row in scores] == [(2, 0), (3, 2)]
    assert held["figures"]["word_error_rate"]["value"] == pytest.approx(2 / 5)
    assert main(command(tmp_path / "replies.jsonl", ctc, "asr_language=auto")) == 2
    assert "does not tell languages" in capsys.readouterr().err.splitlines()[-1]


def wordless(folder, count=5):
    """A manifest of recordings without words, but for the second one."""
    rows = []
    for index in range(count):
        write(folder / f"{index}.wav", torch.cat([tone("high"), tone("low")]) if index == 2 else tone("low"))
        rows.append(Utterance(f"u{index}", "c", str(folder / f"{index}.wav"), language="en", response="Yes."))
    rows[1].transcript = "Own words."
    # The second half of its file.
    rows[2].start = 1.0
    write_manifest(folder / "wordless.jsonl", rows)
    return folder / "wordless.jsonl"


def transcripts(manifest, asr, *more, out="words.jsonl"):
    words = ["--asr", str(asr), "--per_shard=2", *more]
    return main(["prepare", "transcripts", str(manifest), "--out", str(manifest.with_name(out)), *words])


def test_recordings_without_words_are_written_down(whisper, tmp_path, capsys):
    manifest = wordless(tmp_path)
    assert transcripts(manifest, whisper) == 0
    rows = read_manifest(tmp_path / "words.jsonl")
    assert [u.transcript for u in rows] == [SAID["low"][1], "Own words.", *[SAID["low"][1]] * 3]
    assert [u.raw_labels.get("transcript") for u in rows] == [f"pseudo: {whisper}", None, *[f"pseudo: {whisper}"] * 3]
    originals = read_manifest(manifest)
    assert [replace(u, transcript=None, raw_labels={}) for u in rows] == [
        replace(u, transcript=None) for u in originals
    ]
    assert "4 transcripts; no word was heard in 0, unreadable: 0" in capsys.readouterr().out


def test_transcripts_go_on_where_they_were_stopped_and_other_recordings_are_heard_anew(
    whisper, tmp_path, monkeypatch, capsys
):
    manifest = wordless(tmp_path)
    assert transcripts(manifest, whisper, out="whole.jsonl") == 0
    transcribe, heard = SpeechRecogniser.transcribe, []

    def _counted(self, waveforms, languages):
        heard.append(len(waveforms))
        if len(heard) == 2:
            raise KeyboardInterrupt
        return transcribe(self, waveforms, languages)

    monkeypatch.setattr(SpeechRecogniser, "transcribe", _counted)
    assert transcripts(manifest, whisper) == 130 and not (tmp_path / "words.jsonl").exists()
    assert transcripts(manifest, whisper) == 0 and heard == [2, 2, 2]
    assert (tmp_path / "words.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    write(tmp_path / "3.wav", torch.cat([tone("low"), torch.zeros(16_000)]))
    assert transcripts(manifest, whisper) == 0 and heard == [2, 2, 2, 1]
    assert transcripts(manifest, whisper, "--language=auto") == 2
    assert "(language changed)" in capsys.readouterr().err.splitlines()[-1]
    # Damaged ones are named, and few may be.
    (tmp_path / "4.wav").write_text("no sound")
    assert transcripts(manifest, whisper) == 2
    assert "1 of 5 utterances would be lost" in capsys.readouterr().err.splitlines()[-1]
    assert transcripts(manifest, whisper, "--allow_left_out=0.2") == 0
    assert read_manifest(tmp_path / "words.jsonl")[4].transcript is None


def test_a_folder_whose_generation_config_names_no_languages_has_them_from_its_tokenizer(whisper, tmp_path):
    folder = shutil.copytree(whisper, tmp_path / "whisper")
    content = json.loads((folder / "generation_config.json").read_text())
    for name in ("lang_to_id", "task_to_id", "is_multilingual", "no_timestamps_token_id"):
        del content[name]
    (folder / "generation_config.json").write_text(json.dumps(content))
    waves = [tone("low"), tone("high")]
    known, found = (SpeechRecogniser(str(path)) for path in (whisper, folder))
    assert set(found.languages.values()) == {"en", "zh"}
    for stated in ([None, None], ["en", "zh"]):
        assert found.transcribe(waves, stated) == known.transcribe(waves, stated)


def test_an_answer_is_looked_for_in_what_is_heard_too(whisper, tmp_path):
    """Spoken question answering: what the reply says in writing, and what its speech says."""
    write(tmp_path / "low.wav", tone("low"), 16_000)
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    replies = []
    for number, (text, file) in enumerate((("Blue.", "low"), ("Grey.", None), ("Grey!", "broken"), ("Grey", "low"))):
        path = file and str(tmp_path / f"{file}.wav")
        replies.append(Utterance(str(number), "c", "q.wav", response=text, response_path=path, references=["GREY"]))
    replies.append(Utterance("4", "c", "q.wav", response="Grey", response_path=replies[0].response_path))
    measured = ExistsMatch(asr=str(whisper))(replies)
    assert measured.rows == [
        {"correct": 0, "heard": "Your colour is grey.", "correct_heard": 1},
        {"correct": 1, "heard": "", "correct_heard": 0},
        {"correct": 1, "heard": None, "correct_heard": None},
        {"correct": 1, "heard": "Your colour is grey.", "correct_heard": 1},
        None,
    ]
    assert measured.figures["replies"] == 4 and measured.figures["unreadable"] == 1
    assert measured.figures["correct"] == 0.75 and measured.figures["correct_heard"] == pytest.approx(2 / 3, abs=1e-6)
