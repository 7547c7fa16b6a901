"""Llama Questions, Web Questions and TriviaQA as speech, as UltraEval-Audio asks them.

Each is a set of the hub in Parquet files whose rows hold the recording of a question, its words and its answers.
Nothing is asked beside the recording.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from empathy_lightning.evaluation.suites.rows import parquet_rows
from empathy_lightning.evaluation.suites.suite import Suite, texts
from empathy_lightning.utterance import Utterance


class SpokenQuestions(Suite):
    """Base of the three: questions with one right answer or several, in English.

    Attributes:
        question: Column of the words.
        answers: Column of the answer, or of a list of them.
    """

    languages = ("en",)
    scoring = "share of replies in which an answer is found (exists_match); of speech, in what Whisper-large-v3 heard"
    measures = ("exists_match",)
    question: str
    answers: str

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read all Parquet files, at any depth."""
        number = 0
        for file in self.files(folder, "*.parquet"):
            for row in parquet_rows(file, self.skip):
                number += 1
                answers = texts(row.values.get(self.answers))
                if not answers or row.audio is None:
                    self.skip(row.place, f"no answer in the column {self.answers}")
                    continue
                yield Utterance(
                    id=f"{number:05d}",
                    corpus=self.name,
                    path=row.audio,
                    transcript=row.values.get(self.question),
                    language="en",
                    ability="knowledge",
                    references=answers,
                )


class LlamaQuestions(SpokenQuestions):
    """300 questions on general knowledge."""

    name = "llama_questions"
    title = "Llama Questions, spoken English questions on general knowledge"
    source = "https://huggingface.co/datasets/TwinkStart/llama-questions"
    access = "download the Parquet files of https://huggingface.co/datasets/TwinkStart/llama-questions"
    licence = "not confirmed"
    citation = (
        "Nachmani et al. 2024, Spoken question answering and speech continuation using a spectrogram-powered LLM, ICLR"
    )
    counts = {"knowledge": 300}
    unconfirmed = "the licence; the columns are those that public code reads, not of files seen"
    question, answers = "Questions", "Answer"


class WebQuestions(SpokenQuestions):
    """2,032 questions, most with several answers."""

    name = "web_questions"
    title = "Web Questions as speech"
    source = "https://huggingface.co/datasets/TwinkStart/speech-web-questions"
    access = "download the Parquet files of https://huggingface.co/datasets/TwinkStart/speech-web-questions"
    licence = "not confirmed"
    citation = "Berant et al. 2013, Semantic parsing on Freebase from question-answer pairs, EMNLP"
    counts = {"knowledge": 2032}
    unconfirmed = "the licence; the columns are those that public code reads, not of files seen"
    question, answers = "question", "answers"


class TriviaQA(SpokenQuestions):
    """1,024 questions with the spellings of their answers."""

    name = "trivia_qa"
    title = "TriviaQA as speech"
    source = "https://huggingface.co/datasets/TwinkStart/speech-triavia-qa"
    access = "download the Parquet files of https://huggingface.co/datasets/TwinkStart/speech-triavia-qa (so spelt)"
    licence = "not confirmed"
    citation = "Joshi et al. 2017, TriviaQA: a large scale distantly supervised challenge dataset, ACL"
    counts = {"knowledge": 1024}
    unconfirmed = "the licence; the columns are those that public code reads, not of files seen"
    question, answers = "question", "answer"
