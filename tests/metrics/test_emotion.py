"""The figures of emotion recognition against scikit-learn, SciPy, torchmetrics and audmetric."""

import numpy as np
import pytest
import torch
from scipy import stats
from torchmetrics.functional.classification import multiclass_calibration_error

from empathy_lightning.metrics import CalibrationError, MacroF1, Pearson, RatingError, emotion_figures
from empathy_lightning.modules.emotion_heads import EmotionEstimate
from empathy_lightning.outputs import EmpatheticOutput
from empathy_lightning.utterance import EMOTIONS

DRAWN = np.random.default_rng(3)
TRUE = [str(name) for name in DRAWN.choice(EMOTIONS[:4], 300, p=[0.5, 0.2, 0.2, 0.1])]
SHARES = DRAWN.dirichlet(np.ones(5), 300) + 0.5 * np.array([[name == true for name in EMOTIONS] for true in TRUE])
SHARES /= SHARES.sum(1, keepdims=True)
HEARD = [EMOTIONS[index] for index in SHARES.argmax(1)]
RATINGS = (DRAWN.uniform(size=300), DRAWN.uniform(size=300))
FIGURES = emotion_figures(
    EMOTIONS,
    TRUE,
    HEARD,
    [dict(zip(EMOTIONS, row, strict=True)) for row in SHARES.tolist()],
    {"valence": (RATINGS[0].tolist(), RATINGS[1].tolist())},
)


def test_accuracies_recalls_and_f1_are_scikit_learn_s():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    present = sorted(set(TRUE))
    assert set(HEARD) > set(present)  # a class that is heard and never said
    assert FIGURES["unweighted_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(TRUE, HEARD), abs=1e-6)
    assert FIGURES["weighted_accuracy"] == pytest.approx(metrics.accuracy_score(TRUE, HEARD), abs=1e-6)
    f1 = metrics.f1_score(TRUE, HEARD, labels=present, average="macro")
    assert FIGURES["macro_f1"] == pytest.approx(f1, abs=1e-6)
    each = metrics.recall_score(TRUE, HEARD, labels=present, average=None)
    assert FIGURES["recalls"] == pytest.approx(dict(zip(present, each, strict=True)), abs=1e-6)
    counts = metrics.confusion_matrix(TRUE, HEARD, labels=EMOTIONS)
    assert [row[:-1] for row in FIGURES["confusion"]] == counts.tolist() and FIGURES["unparseable"] == 0


def test_they_are_audmetric_s():
    audmetric = pytest.importorskip("audmetric", reason="audmetric is not installed")
    # audmetric leaves out what is heard outside of its labels.
    pairs = [(true, heard) for true, heard in zip(TRUE, HEARD, strict=True) if heard in set(TRUE)]
    true, named = zip(*pairs, strict=True)
    expected = audmetric.unweighted_average_recall(true, named)
    assert emotion_figures(EMOTIONS, true, named)["unweighted_accuracy"] == pytest.approx(expected, abs=1e-6)
    heard, rated = RATINGS
    assert FIGURES["concordance_valence"] == pytest.approx(audmetric.concordance_cc(rated, heard), abs=1e-6)
    assert FIGURES["pearson_valence"] == pytest.approx(audmetric.pearson_cc(rated, heard), abs=1e-6)
    assert FIGURES["mean_squared_error_valence"] == pytest.approx(audmetric.mean_squared_error(rated, heard), abs=1e-6)


def test_ratings_are_scipy_s():
    heard, rated = RATINGS
    assert FIGURES["pearson_valence"] == pytest.approx(stats.pearsonr(heard, rated).statistic, abs=1e-6)
    assert FIGURES["mean_squared_error_valence"] == pytest.approx(np.mean((heard - rated) ** 2), abs=1e-6)


def test_the_calibration_error_is_that_of_torchmetrics():
    target = torch.tensor([EMOTIONS.index(name) for name in TRUE])
    expected = multiclass_calibration_error(torch.tensor(SHARES), target, 5, n_bins=15, norm="l1")
    assert FIGURES["calibration_error"] == pytest.approx(float(expected), abs=1e-6)
    counts, confidences, accuracies = np.array(FIGURES["reliability"]).T
    assert counts.sum() == 300 and ((confidences > 0) & (confidences <= 1)).all()
    assert np.average(abs(confidences - accuracies), weights=counts) == pytest.approx(float(expected), abs=1e-5)


class Labels:
    """What the metrics read from a batch."""

    def __init__(self, emotion, valence):
        self.emotion, self.valence = emotion, valence


def test_the_trainers_metrics_are_the_same_figures_pooled_over_batches():
    metrics = {
        "macro_f1": MacroF1(5),
        "calibration_error": CalibrationError(),
        "pearson_valence": Pearson("valence"),
        "mean_squared_error_valence": RatingError("valence"),
    }
    assert all(metric.compute().isnan() for metric in metrics.values())
    heard, rated = map(torch.tensor, RATINGS)
    target = torch.tensor([EMOTIONS.index(name) for name in TRUE])
    for begin in range(0, 300, 64):
        few = slice(begin, begin + 64)
        logits = torch.tensor(SHARES[few]).log()
        nothing = torch.zeros(len(logits))
        output = EmpatheticOutput(None, EmotionEstimate(logits, logits, nothing, heard[few], nothing))
        for metric in metrics.values():
            metric.update(output, Labels(target[few], rated[few]))
    assert {name: float(metric.compute()) for name, metric in metrics.items()} == pytest.approx(
        {name: FIGURES[name] for name in metrics}, abs=1e-5
    )


def test_what_is_not_there_is_left_out():
    one = emotion_figures(EMOTIONS, ["sad"], [None], ratings={"arousal": ([0.1], [0.2])})
    assert one["unweighted_accuracy"] == one["weighted_accuracy"] == one["macro_f1"] == 0.0
    assert one["recalls"] == {"sad": 0.0} and one["unparseable"] == 1
    assert not {"calibration_error", "concordance_arousal", "mean_squared_error_arousal"} & set(one)
    same = emotion_figures(EMOTIONS, ["sad"] * 2, ["sad"] * 2, ratings={"arousal": ([0.5, 0.5], [0.1, 0.3])})
    assert same["unweighted_accuracy"] == 1.0 and "pearson_arousal" not in same
    assert same["mean_squared_error_arousal"] == pytest.approx((0.4**2 + 0.2**2) / 2, abs=1e-6)
    assert "unweighted_accuracy" not in emotion_figures(EMOTIONS, [], [])
