import json
from dataclasses import replace

import pytest
import torch

from empathy_lightning.__main__ import main
from empathy_lightning.checkpoints import save
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.evaluation.parsing import parse_substring, parse_words
from empathy_lightning.evaluation.recognised import class_rows, figures, speaker_rows, table
from empathy_lightning.evaluation.recognisers import Recognition, score_options
from empathy_lightning.filled_prompt import FilledPrompt
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.responder import Responder
from empathy_lightning.slots import Transcript, TrueLabel
from empathy_lightning.utterance import EMOTIONS, Utterance
from tests.modules.families import tiny
from tests.tiny import spoken, whole


@pytest.mark.parametrize(
    ("answer", "words", "substring"),
    [
        ("The emotion tone of the speech provided is neutral.", "neutral", "neutral"),
        ("Happy", "happy", "happy"),
        ("surprise", "surprised", None),
        ("surprised", "surprised", "surprised"),
        ("The speaker sounds surprised.", "surprised", None),
        ("They feel ANGER and fury.", "angry", None),
        ("unhappy", "sad", "happy"),
        ("It is sad, not happy.", "sad", "happy"),
        ("It isn't really happy but sad.", "sad", "happy"),
        ("Rather than a sad tone, it is neutral.", "neutral", "neutral"),
        ("Neither sad nor angry.", None, "angry"),
        ("sad or angry", None, "angry"),
        ("It could be happy; it could be sad.", None, "happy"),
        ("Options: neutral, sad, angry, happy, or surprise.", None, "neutral"),
        ("The saddle is on the horse.", None, "sad"),
        ("I\u2019m sure it isn\u2019t sad.", None, "sad"),
        ("", None, None),
        ("No idea", None, None),
    ],
)
def test_parsers(answer, words, substring):
    assert parse_words(answer, EMOTIONS) == words
    assert parse_substring(answer, EMOTIONS) == substring


def test_a_synonym_that_is_a_category_of_the_task_belongs_to_it():
    assert parse_words("full of joy", ["joy", "happy"]) == "joy"
    assert parse_words("full of joy", ["happy"]) == "happy"
    assert parse_words("It is sad.", ["happy"]) is None
    assert parse_substring("It is sad.", ["happy"]) is None


@pytest.mark.parametrize(("per_token", "family"), [(False, None), (True, None), (False, "gemma2"), (False, "cohere")])
def test_scores_are_the_sums_of_the_bare_model_s_log_probabilities(per_token, family):
    model = LanguageModel.from_pretrained("small-world/language_model")
    if family is not None:
        model = LanguageModel(tiny(family, vocab_size=len(model.tokenizer)), model.tokenizer)
    texts, options = ["You sound", "How was the basket with your uncle"], ["calm", "so happy", "unbelievably calm"]
    ids = [model.tokenizer(text, add_special_tokens=False).input_ids for text in texts]
    prompts = [FilledPrompt.of([row], [model.embed(row)], [False]) for row in ids]
    scores = score_options(Responder(model), prompts, options, per_token, batch_size=4)
    for row, prompt in enumerate(ids):
        for column, option in enumerate(options):
            tokens = model.tokenizer(option, add_special_tokens=False).input_ids
            expected = 0.0
            for position, token in enumerate(tokens):
                with torch.no_grad():
                    logits = model.model(torch.tensor([prompt + tokens[:position]])).logits[0, -1]
                expected += float(torch.log(torch.softmax(logits, -1)[token]))
            expected /= len(tokens) if per_token else 1
            assert scores[row, column].item() == pytest.approx(expected, abs=1e-3)
    assert len({len(model.tokenizer(option).input_ids) for option in options}) > 1


def test_unparseable_answers_count_as_wrong():
    said = [("sad", "sad"), ("sad", None), ("sad", "happy"), ("sad", "sad"), ("happy", "happy"), ("happy", None)]
    rows = [Recognition(Utterance("1", "c", "a", emotion=true), "", heard) for true, heard in said]
    measured = figures(rows, ["happy", "sad", "angry"])
    assert measured["unweighted_accuracy"] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert measured["weighted_accuracy"] == pytest.approx(3 / 6)
    assert measured["unparseable"] == 2 and measured["confusion"] == [[1, 0, 0, 1], [1, 2, 0, 1], [0, 0, 0, 0]]
    assert "2 of 6" in table(measured)


def heard(true, answer, speaker="a", **ratings):
    utterance = Utterance("1", "c", "a", emotion=true, speaker=speaker, arousal=ratings.pop("true_arousal", None))
    return Recognition(utterance, "", answer, ratings)


def test_concordance_is_over_the_rated_utterances_alone():
    pairs = [(0.1, 0.2), (0.5, 0.4), (0.9, 0.7)]
    rows = [heard("sad", "sad", arousal=x, true_arousal=y) for x, y in pairs]
    rows += [heard("sad", "sad", arousal=0.3), heard("sad", "sad", true_arousal=0.3)]
    measured = figures(rows, ["sad"])
    x, y = (torch.tensor(values, dtype=torch.float64) for values in zip(*pairs, strict=True))
    covariance = ((x - x.mean()) * (y - y.mean())).mean()
    expected = 2 * covariance / (x.var(correction=0) + y.var(correction=0) + (x.mean() - y.mean()) ** 2)
    assert measured["concordance_arousal"] == pytest.approx(float(expected), abs=1e-5)
    assert "concordance_valence" not in measured and f"{expected:.3f}" in table(measured).splitlines()[1]


def test_one_rated_utterance_has_no_concordance():
    assert "concordance_arousal" not in figures([heard("sad", "sad", arousal=0.1, true_arousal=0.2)], ["sad"])


def test_a_row_for_each_corpus_and_language_beside_the_pool(bot, corpus, tmp_path, capsys):
    rows = [u for u in read_manifest(corpus) if u.split != "train"]
    rows = [replace(u, corpus=f"c{row % 2}", language=("en", "fr", "fr")[row % 3]) for row, u in enumerate(rows)]
    write_manifest(tmp_path / "m.jsonl", rows)
    measured = evaluate(bot, tmp_path / "m.jsonl", tmp_path / "o.json", "--by", "classifier", "--split", "all")
    assert {kind: list(named) for kind, named in measured["groups"].items()} == {
        "corpus": ["c0", "c1"],
        "language": ["en", "fr"],
    }
    alone = [replace(u, split="test") for u in rows if u.language == "fr"]
    write_manifest(tmp_path / "fr.jsonl", alone)
    printed = capsys.readouterr().out
    only = evaluate(bot, tmp_path / "fr.jsonl", tmp_path / "fr.json", "--by", "classifier")
    assert measured["groups"]["language"]["fr"].items() <= only.items() and only["groups"].keys() == {"corpus"}
    names = [line.split("  ")[0] for line in printed.splitlines()]
    expected = ["all", "corpus c0", "corpus c1", "mean of corpora", "language en", "language fr", "mean of languages"]
    assert [name for name in names if name in expected] == expected


def test_a_single_class_says_so():
    measured = figures([heard("sad", "sad"), heard("sad", "happy")], ["sad", "happy"])
    assert "every utterance is sad: UA is the recall of that alone" in table(measured)


def test_classes_and_speakers_of_the_report():
    rows = [heard("sad", "sad"), heard("sad", "happy"), heard("sad", None, "b"), heard("happy", "happy", "b")]
    rows += [heard("happy", "happy", "c")]
    emotions = ["sad", "happy", "angry"]
    ((sad, count, recall, precision, f1), happy) = class_rows(figures(rows, emotions))
    assert (sad, count, precision) == ("sad", 3, 1.0)
    assert recall == pytest.approx(1 / 3) and f1 == pytest.approx(2 * precision * recall / (precision + recall))
    assert happy[:2] == ("happy", 2) and happy[3] == pytest.approx(2 / 3)
    assert speaker_rows(rows) == [("a", 2, 0.5), ("b", 2, 0.5), ("c", 1, 1.0)]


@pytest.fixture
def bot(model, tmp_path):
    save(tmp_path / "bot", spoken(model, list(EMOTIONS)))
    return tmp_path / "bot"


def evaluate(bot, corpus, out, *more):
    words = ["evaluate", "emotion", "--checkpoint", str(bot), "--manifest", str(corpus), "--out", str(out)]
    assert main([*words, "--max_new_tokens", "4", *more]) == 0
    return json.loads(out.read_text())


def test_the_command_measures_each_way(bot, model, corpus, tmp_path, capsys):
    test = [u for u in read_manifest(corpus) if u.split == "test"]
    for by in ("answer", "options", "classifier"):
        measured = evaluate(bot, corpus, tmp_path / f"{by}.json", "--by", by)
        assert measured["utterances"] == len(test) == len(measured["answers"])
        recognised = {answer["id"]: answer["recognised"] for answer in measured["answers"]}
        right = sum(recognised[u.id] == u.emotion for u in test)
        assert measured["weighted_accuracy"] == pytest.approx(right / len(test))
        assert measured["unparseable"] == sum(name is None for name in recognised.values())
        printed = capsys.readouterr().out
        assert " UA " in printed and (" ECE" in printed) is (by != "answer")
    # A model of random weights says nothing that could be parsed, and options are always among those offered.
    assert {answer["answer"] for answer in json.loads((tmp_path / "options.json").read_text())["answers"]} <= {
        *EMOTIONS[:4],
        "surprise",
    }


@pytest.mark.parametrize(
    ("more", "name"),
    [
        (["--by", "options"], "by"),
        (["--prompt", "{speech} Which emotion?"], "question"),
        (["--parser", "substring"], "parser"),
        (["--per_token"], "per_token"),
        (["--max_new_tokens", "5"], "max_new_tokens"),
        (["--split", "validation"], "split"),
    ],
)
def test_the_file_says_all_that_decides_the_figures(bot, corpus, tmp_path, more, name):
    by_default = evaluate(bot, corpus, tmp_path / "a.json")["made_from"]
    chosen = evaluate(bot, corpus, tmp_path / "b.json", *more)["made_from"]
    changed = {key for key in by_default if by_default[key] != chosen[key]}
    # Another split holds other recordings.
    assert changed - {"recordings"} == {name}


def test_the_report_shows_what_was_measured(bot, corpus, tmp_path):
    training = {"history": [{"step": 1, "train/loss": 1.0, "validation/loss": 2.0}]}
    (bot / "training.json").write_text(json.dumps(training))
    page = tmp_path / "pages" / "report.html"
    measured = evaluate(bot, corpus, tmp_path / "o.json", "--by", "classifier", "--report", str(page))
    text = page.read_text()
    assert f"{measured['unweighted_accuracy']:.3f}" in text and f"{measured['concordance_valence']:.3f}" in text
    for picture in ("confusion matrix", "reliability curve", "arousal, heard against rated", "loss curves"):
        assert f'<img alt="{picture}" src="data:image/png' in text
    assert sum(measured["layers"]) == pytest.approx(1, abs=1e-3) and "Layers that speak" in text
    assert f'block 1</td><td class="number">{measured["layers"][0]:.3f}</td>' in text
    assert "http" not in text.replace("data:", "")


def test_a_page_that_cannot_be_written_is_refused_before_the_work(bot, corpus, tmp_path, capsys):
    words = ["evaluate", "emotion", "--checkpoint", str(bot), "--manifest", str(corpus), "--report", str(tmp_path)]
    assert main(words) == 2
    assert "is a folder" in capsys.readouterr().err


def test_unreadable_recordings_are_left_out_and_named(bot, corpus, tmp_path):
    rows = [u for u in read_manifest(corpus) if u.split == "test"]
    rows[0].path = "/nowhere.wav"
    write_manifest(tmp_path / "m.jsonl", rows)
    measured = evaluate(
        bot, tmp_path / "m.jsonl", tmp_path / "o.json", "--by", "classifier", "--split", "all", "--allow_left_out", "1"
    )
    assert measured["utterances"] == len(rows) - 1 and "/nowhere.wav" in measured["unreadable"][0]


def test_the_label_is_not_told_to_a_bot_that_hears_no_emotion(model, corpus, tmp_path, capsys):
    """Stage 1 puts the label's word into the slot; a question about the emotion must not."""
    parts = (model.listener.speech_encoder, model.listener.speech_adapter, model.responder.language_model)
    save(tmp_path / "one", spoken(whole(*parts), EMOTIONS))
    words = ["evaluate", "emotion", "--checkpoint", str(tmp_path / "one"), "--manifest", str(corpus)]
    assert main(words) == 2
    assert "give --prompt without one, or another --paper" in capsys.readouterr().err.splitlines()[-1]
    assert main([*words, "--paper", "re_llm"]) == 0


def test_a_question_is_about_what_is_heard_whatever_fills_the_folder_s_slots(bot, model, corpus, tmp_path):
    """With the true label in its place, the folder would be told the answer."""
    model.responder.speech_slot, model.responder.emotion_slot = Transcript(), TrueLabel()
    save(tmp_path / "told", spoken(model, EMOTIONS))
    figures = [evaluate(folder, corpus, tmp_path / "o.json", "--by", "options") for folder in (bot, tmp_path / "told")]
    assert figures[0]["answers"] == figures[1]["answers"]


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (["--by", "luck"], '"luck" for --'),
        (["--parser", "eye"], '"eye" for --'),
        (["--paper", "x"], '"x" for --'),
        (["--split", "none"], "no split is named 'none'"),
        (["--prompt", "What is it?"], "no {speech} slot"),
    ],
)
def test_bad_choices_are_one_line(bot, corpus, capsys, extra, reason):
    assert main(["evaluate", "emotion", "--checkpoint", str(bot), "--manifest", str(corpus), *extra]) == 2
    assert reason in capsys.readouterr().err.strip().splitlines()[-1]
