"""What the trial of a candidate says about one type, and the recommendation that follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import comb
from typing import Any, Literal

from pixal.tasks.photographs.comparison.results import TypeComparison, difference_sentence
from pixal.tasks.photographs.learning.model_scores import PartScore
from pixal.tasks.photographs.learning.past_parts import PastPart
from pixal.validation.intervals import rate_interval

IN_USE, CANDIDATE = "in use", "candidate"
"""The names of the two models."""

Change = str
"""One of the words in ``ComparedPart.change``."""

Verdict = Literal["promote", "keep", "no difference"]

# What is gained and lost, of what, and in which words.
_PAIRED = (
    ("newly found", "newly lost", "known defects", ("newly found", "newly lost")),
    ("no false alarm any more", "new false alarm", "false alarms on good parts", ("removed", "added")),
)
_CHANCE = 0.2  # of a loss; 3 parts lost and none gained have 0.125, 2 lost have 0.25


@dataclass(frozen=True)
class ComparedPart:
    """A part and what both models say about it.

    Attributes:
        type_name: Its type.
        part: The part.
        before: What the model in use says.
        after: What the candidate says.
        threshold_before: The threshold of the model in use.
        threshold_after: The threshold of the candidate.
    """

    type_name: str
    part: PastPart
    before: PartScore
    after: PartScore
    threshold_before: float
    threshold_after: float

    @property
    def counts(self) -> bool:
        """Whether both verdicts say something about their models."""
        return self.before.counts and self.after.counts

    @property
    def change(self) -> Change:
        """What is different; "" for a part that nobody marked and that keeps its verdict."""
        if not self.counts:
            return "not compared"
        if self.part.is_defective:
            before, after = self.before.finds(self.part), self.after.finds(self.part)
            names: tuple[Change, ...] = ("missed", "newly found", "newly lost", "found")
        else:
            before, after = self.before.failed, self.after.failed
            names = ("", "now fails", "now passes", "")
            if self.part.is_good:
                names = ("passes", "new false alarm", "no false alarm any more", "false alarm")
        return names[2 * before + after]

    def as_row(self) -> dict[str, Any]:
        """The row of the table."""
        return {
            "type": self.type_name,
            "image": self.part.image,
            "batch": self.part.batch,
            "mark": self.part.mark,
            "change": self.change,
            "score_in_use": self.before.score,
            "threshold_in_use": self.threshold_before,
            "verdict_in_use": _verdict(self.before),
            "score_candidate": self.after.score,
            "threshold_candidate": self.threshold_after,
            "verdict_candidate": _verdict(self.after),
            "held_out": "+".join(
                name for name, score in ((IN_USE, self.before), (CANDIDATE, self.after)) if score.use == "held out"
            ),
            "reason": self.before.reason or self.after.reason,
        }


@dataclass(frozen=True)
class TypeTrial:
    """The trial of one type.

    Attributes:
        name: The type.
        parts: The parts that were marked, and those of the last batches.
        planted: What both models find of planted defects; None if that could not be measured.
        planted_problem: Why it could not; "" if it could.
        rate: The false-alarm rate that is asked for.
        good: By model, how many held-out good parts of training fail, and of how many.
    """

    name: str
    parts: tuple[ComparedPart, ...]
    planted: TypeComparison | None
    planted_problem: str
    rate: float
    good: dict[str, tuple[int, int]]

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many parts have each ``change``."""
        changes = [part.change for part in self.parts]
        return {change: changes.count(change) for change in changes}

    @property
    def planted_sentence(self) -> str:
        """Whether the candidate finds more planted defects; "" if that could not be measured."""
        if self.planted is None:
            return ""
        return difference_sentence("the candidate", "the model in use", self.planted.differences[CANDIDATE])

    def missed_known(self, model: str) -> tuple[int, int]:
        """How many known defects a model misses, and of how many."""
        known = [part for part in self.parts if part.counts and part.part.is_defective]
        scores = [(part, part.before if model == IN_USE else part.after) for part in known]
        return sum(not score.finds(part.part) for part, score in scores), len(known)

    def missed_sentence(self, model: str) -> str | None:
        """The expected share of missed defects at the threshold of a model; None without known defects."""
        missed, known = self.missed_known(model)
        if not known:
            return None
        low, high = rate_interval(missed, known)
        return (
            f"Of {known} known {'defect' if known == 1 else 'defects'} the model misses {missed}: expect "
            f"{100 * missed / known:.0f} % of such defects to be missed at a false-alarm rate of {100 * self.rate:g} % "
            f"(95 % interval {100 * low:.0f} to {100 * high:.0f} %)."
        )

    def as_record(self) -> dict[str, Any]:
        """The values for the record."""
        planted: dict[str, Any] = {"problem": self.planted_problem}
        if self.planted is not None:
            planted = {
                "defects": int(self.planted.drawn.sum()),
                "sentences": [self.planted_sentence],
                **{
                    model: {
                        "found": int(paired.found.sum()),
                        "detection_rate": paired.detection_rate,
                        "interval": rate_interval(int(paired.found.sum()), len(paired.found)),
                        "by_kind": {
                            kind: {"found": found, "planted": count}
                            for kind, (found, count) in self.planted.found_by_kind(model).items()
                        },
                    }
                    for model, paired in self.planted.paired.items()
                },
            }
        return {
            "false_alarm_rate": self.rate,
            "changes": {name or "same verdict": count for name, count in self.counts.items()},
            "good_parts": {model: {"failed": failed, "parts": count} for model, (failed, count) in self.good.items()},
            "known_defects": {
                model: {"missed": missed, "known": known, "interval": rate_interval(missed, known) if known else None}
                for model in (IN_USE, CANDIDATE)
                for missed, known in (self.missed_known(model),)
            },
            "expected_missed": self.missed_sentence(CANDIDATE),
            "planted": planted,
        }


@dataclass(frozen=True)
class Recommendation:
    """Whether the candidate should replace the model in use.

    Attributes:
        verdict: The recommendation.
        reasons: Why, one sentence each.
        cautions: What to look at before.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    cautions: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The recommendation in one sentence."""
        return {
            "promote": "Promote the candidate: it is better.",
            "keep": "Keep the model in use.",
            "no difference": "No difference is shown; keep the model in use until there are more marks.",
        }[self.verdict]


def recommend(trials: Sequence[TypeTrial]) -> Recommendation:
    """Recommend one of the two models.

    The candidate is worse if, of the marked parts on which the models differ, it is wrong on more than the model in
    use; if it clearly loses more known defects than it newly finds, or clearly adds more false alarms than it removes;
    if it finds significantly fewer planted defects; or if it fails significantly more good parts than the false-alarm
    rate allows. It is better if none of this holds, and it is right on more of these marked parts, or finds
    significantly more planted defects.

    A loss is clear if chance alone would give one as large with a probability of at most ``_CHANCE``. A smaller one,
    such as one defect lost and none found, is a caution: refusing every candidate with such a loss would refuse most of
    the better ones, because a few parts near the threshold change sides with any change of a model.
    """
    better: list[str] = []
    worse: list[str] = []
    cautions: list[str] = []
    gained = lost = right_before = 0
    finds_more = False
    for trial in trials:
        right_before += sum(trial.counts.get(change, 0) for change in ("found", "passes"))
        for plus_name, minus_name, what, words in _PAIRED:
            plus, minus = trial.counts.get(plus_name, 0), trial.counts.get(minus_name, 0)
            gained, lost = gained + plus, lost + minus
            text = f"{trial.name}: {what} {words[0]}: {plus}, {words[1]}: {minus}."
            if plus > minus:
                better.append(text)
            elif minus > plus and _chance(minus, plus) <= _CHANCE:
                worse.append(text)
            if minus and text not in worse:
                cautions.append(f"{trial.name}: {what} {words[1]}: {minus} ({words[0]}: {plus}); look at them.")
        if trial.planted is not None:
            verdict = trial.planted.differences[CANDIDATE].verdict
            finds_more |= verdict == "better"
            list_of = {"better": better, "worse": worse}.get(verdict)
            if list_of is not None:
                list_of.append(f"{trial.name}: {trial.planted_sentence}")
        elif trial.planted_problem:
            cautions.append(f"{trial.name}: planted defects were not compared: {trial.planted_problem}")
        worse += _too_many_fail(trial)
        cautions += _unmarked(trial)
    if lost > gained:
        worse.insert(0, _points(gained, lost))
    elif gained + lost:
        better.insert(0, _points(gained, lost))
    if gained and not lost and not right_before:
        cautions.append(
            "all marked parts are wrong verdicts of the model in use, on which any other model looks better; "
            "confirm right verdicts, too."
        )
    verdict_: Verdict = "keep" if worse else "promote" if finds_more or gained > lost else "no difference"
    return Recommendation(verdict_, tuple(worse + better), tuple(cautions))


def _too_many_fail(trial: TypeTrial) -> list[str]:
    """Whether the candidate fails significantly more held-out good parts than the rate allows, in words."""
    failed, count = trial.good[CANDIDATE]
    if not count or rate_interval(failed, count)[0] <= trial.rate:
        return []
    rate = f"{100 * trial.rate:g} %"
    return [f"{trial.name}: {failed} of {count} held-out good parts fail, more than the {rate} that are asked for."]


def _unmarked(trial: TypeTrial) -> list[str]:
    """What the comparison says about parts that nobody marked, or that could not be compared."""
    fails, passes = trial.counts.get("now fails", 0), trial.counts.get("now passes", 0)
    lines = []
    if fails + passes:
        lines.append(
            f"{trial.name}: parts that nobody marked with another verdict: {fails + passes} "
            f"({fails} now fail, {passes} now pass)."
        )
    if left := trial.counts.get("not compared", 0):
        lines.append(f"{trial.name}: parts that could not be compared: {left}; the table says why.")
    return lines


def _points(gained: int, lost: int) -> str:
    """How many of the marked parts on which the models differ the candidate is right on, with its interval."""
    low, high = rate_interval(gained, gained + lost)
    return (
        f"Of {gained + lost} marked parts on which the models differ, the candidate is right on {gained} "
        f"(95 % interval {100 * low:.0f} to {100 * high:.0f} %)."
    )


def _chance(minus: int, plus: int) -> float:
    """The probability of at least ``minus`` losses among ``minus + plus`` if losses and gains are equally likely."""
    total = minus + plus
    return float(sum(comb(total, count) for count in range(minus, total + 1)) / 2**total)


def _verdict(score: PartScore) -> str:
    return "error" if score.score is None else "fail" if score.failed else "pass"
