"""PromQL as OpenObserve evaluates it, as far as the panels need it: a rate is the last sample less the first, and needs two."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

Labels = frozenset[tuple[str, str]]
Samples = Sequence[tuple[float, Labels, float]]
"""Time in seconds, labels, value; in order of time."""
Vector = dict[Labels, float]

LOOKBACK = 300.0
_TOKEN = re.compile(r'\s*([a-z_A-Z]\w*|\d+(?:\.\d+)?|"[^"]*"|!=|=|[(){}\[\],])')
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def evaluate(promql: str, streams: Mapping[str, Samples], at: float) -> Vector:
    """Give what a query gives at a time, nothing where there is no such stream; ValueError for what is not understood here."""
    tokens = _TOKEN.findall(promql)
    assert "".join(tokens) == re.sub(r"\s", "", promql), promql
    return _Query(tokens, streams, at).expression()


@dataclass
class _Query:
    tokens: list[str]
    streams: Mapping[str, Samples]
    at: float

    def expression(self) -> Vector:
        name = self.tokens.pop(0)
        if name in ("sum", "max", "min"):
            combine: Callable[[list[float]], float] = {"sum": sum, "max": max, "min": min}[name]  # type: ignore[assignment]
            return self._aggregation(combine)
        if name in ("rate", "increase"):
            self._take("(")
            found = self._change(per_second=name == "rate")
            self._take(")")
            return found
        if name == "histogram_quantile":
            self._take("(")
            quantile = float(self.tokens.pop(0))
            self._take(",")
            found = _quantile(quantile, self.expression())
            self._take(")")
            return found
        return {labels: series[-1][1] for labels, series in self._select(name, LOOKBACK).items()}

    def _aggregation(self, combine: Callable[[list[float]], float]) -> Vector:
        kept: list[str] = []
        if self.tokens[0] == "by":
            self.tokens.pop(0)
            kept = list(self._list("(", ")"))
        self._take("(")
        groups: dict[Labels, list[float]] = {}
        for labels, value in self.expression().items():
            group = frozenset((name, text) for name, text in labels if name in kept)
            groups.setdefault(group, []).append(value)
        self._take(")")
        return {labels: combine(values) for labels, values in groups.items()}

    def _change(self, *, per_second: bool) -> Vector:
        name = self.tokens.pop(0)
        place = self.tokens.index("[")
        window = float(self.tokens[place + 1]) * _SECONDS[self.tokens[place + 2]]
        found = {}
        for labels, series in self._select(name, window).items():
            (began, first), (ended, last) = series[0], series[-1]
            if ended > began:
                found[labels] = (last - first) / ((ended - began) if per_second else 1)
        del self.tokens[:4]
        return found

    def _select(self, name: str, window: float) -> dict[Labels, list[tuple[float, float]]]:
        matchers = list(self._matchers()) if self.tokens and self.tokens[0] == "{" else []
        series: dict[Labels, list[tuple[float, float]]] = {}
        for time, labels, value in self.streams.get(name, ()):
            texts = dict(labels)
            matches = all((texts.get(key) == wanted) is is_equal for key, is_equal, wanted in matchers)
            if matches and self.at - window <= time <= self.at:
                series.setdefault(labels, []).append((time, value))
        return series

    def _matchers(self) -> Iterator[tuple[str, bool, str]]:
        parts = iter(self._list("{", "}"))
        for key in parts:
            yield key, next(parts) == "=", next(parts).strip('"')

    def _list(self, opening: str, closing: str) -> Iterator[str]:
        self._take(opening)
        while (token := self.tokens.pop(0)) != closing:
            if token != ",":
                yield token

    def _take(self, expected: str) -> None:
        if (found := self.tokens.pop(0)) != expected:
            raise ValueError(f"{found} instead of {expected}")


def _quantile(quantile: float, buckets: Vector) -> Vector:
    groups: dict[Labels, list[tuple[float, float]]] = {}
    for labels, count in buckets.items():
        bound = math.inf if (le := dict(labels)["le"]) in ("inf", "+Inf") else float(le)
        rest = frozenset((name, text) for name, text in labels if name != "le")
        groups.setdefault(rest, []).append((bound, count))
    found = {}
    for labels, counts in groups.items():
        counts.sort()
        rank, below, start = quantile * counts[-1][1], 0.0, 0.0
        if counts[-1][1] == 0:
            continue  # NaN, which is drawn as nothing
        for bound, count in counts:
            if count >= rank:
                end = start if math.isinf(bound) else bound
                found[labels] = start + (end - start) * ((rank - below) / max(count - below, 1e-9))
                break
            below, start = count, bound
    return found
