"""lm-evaluation-harness's model with contexts computed once for all choices that follow them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM

from validate.models.pretrained import Pretrained
from validate.models.text import require_known
from validate.quality.items import ChoiceItem

WIDEST = 4096
"""Tokens of a sequence that contexts are shared in, at most: its mask has the square of that."""

Request = tuple[tuple[str, str], list[int], list[int]]
"""Texts of context and continuation, and the tokens of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Continuations of one context, and where their results belong."""

    context: list[int]
    continuations: list[list[int]]
    places: list[int]

    @property
    def tokens(self) -> list[int]:
        """Context, then every continuation but its last token, whose prediction nobody asks for."""
        return [*self.context, *(token for each in self.continuations for token in each[:-1])]

    @property
    def width(self) -> int:
        """How many tokens."""
        return len(self.context) + sum(len(each) - 1 for each in self.continuations)


class SharedContextLM(HFLM):  # type: ignore[misc]
    """HFLM whose multiple-choice items run as one sequence: the context, then the choices, each of which sees only the
    context and itself, at the positions it would have alone. The likelihoods are HFLM's but for rounding, at a third
    of its time where contexts are long.

    `_encode_pair` and `_loglikelihood_tokens` are HFLM's own and private, overridden since its public methods can do
    neither: `loglikelihood` takes texts, so that one who overrides it has to split and encode them as HFLM does, which
    only these methods can. A test compares the likelihoods with HFLM's.

    Args:
        pretrained: a causal model and its tokenizer.
        batch: items that run together.
        shared: False for HFLM's own way, which attention windows shorter than the items need.

    Attributes:
        unscored: context and continuation of requests that HFLM would stop at, since no token is left of one of them
            when both are encoded together, or the continuation is longer than the model takes. Their likelihood is 0
            and means nothing.
    """

    def __init__(self, pretrained: Pretrained, *, batch: int, shared: bool = True) -> None:
        longest = pretrained.spec.max_positions
        super().__init__(
            pretrained=pretrained.model,
            tokenizer=pretrained.tokenizer,
            batch_size=batch,
            backend="causal",
            max_length=longest,
        )
        self._spec, self._shared = pretrained.spec, shared
        self.unscored: set[tuple[str, str]] = set()
        self._encoded: dict[tuple[str, str], tuple[list[int], list[int]]] = {}

    def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> Any:
        scored = [self._is_scored(*request.args) for request in requests]
        asked = [request for request, possible in zip(requests, scored, strict=True) if possible]
        found = iter(super().loglikelihood(asked, disable_tqdm=True))
        return [next(found) if possible else (0.0, False) for possible in scored]

    def generate_until(self, requests: Any, disable_tqdm: bool = True) -> Any:
        return super().generate_until(requests, disable_tqdm=True)

    def require_known(self, item: ChoiceItem, where: str) -> None:
        """Make sure that the model has an embedding for every token of an item.

        Raises:
            InputError: naming `where` and the token.
        """
        for choice in item.choices:
            before, tokens = self._tokens(item.context, choice)
            require_known([*before, *tokens], self._spec, where)

    def _tokens(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Tokens of both as HFLM asks for them; an empty context is the token that begins a text."""
        if context:
            return self._encode_pair(context, continuation)
        before = [self.prefix_token_id]
        tokens: list[int] = self.tok_encode(continuation, add_special_tokens=False)
        return before, tokens[1:] if tokens[:1] == before else tokens

    def _is_scored(self, context: str, continuation: str) -> bool:
        """Whether HFLM can score a request; `unscored` keeps those that it cannot.

        Raises:
            InputError: when a token is none of the model's.
        """
        before, tokens = self._tokens(context, continuation)
        require_known([*before, *tokens], self._spec, "a task")
        possible = bool(before) and 0 < len(tokens) <= self.max_length
        if not possible:
            self.unscored.add((context, continuation))
        return possible

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Tokens of both, remembered: every candidate is asked the same."""
        key = (context, continuation)
        if key not in self._encoded:
            self._encoded[key] = super()._encode_pair(context, continuation)
        return self._encoded[key]

    def _loglikelihood_tokens(
        self, requests: Sequence[Request], disable_tqdm: bool = True, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """Log-likelihood of each continuation, and whether it is the greedy one, in the order of the requests."""
        results: list[tuple[float, bool] | None] = [None] * len(requests)
        groups, alone = self._grouped(requests)
        for start in range(0, len(groups), self.batch_size):
            self._score(groups[start : start + self.batch_size], results)
        if alone:
            whole = super()._loglikelihood_tokens([requests[place] for place in alone], disable_tqdm=True)
            for place, result in zip(alone, whole, strict=True):
                results[place] = result
        return results  # type: ignore[return-value]

    def _grouped(self, requests: Sequence[Request]) -> tuple[list[_Group], list[int]]:
        """Requests by context, longest first, and the places of those that run alone: all where contexts are not
        shared, else those that HFLM cuts to the model's length, or that are wider than WIDEST themselves. Choices that
        do not fit in one sequence are several groups; many items may have the same context, such as none."""
        limit = min(self.max_length, WIDEST)
        groups: list[_Group] = []
        latest: dict[tuple[int, ...], _Group] = {}
        alone: list[int] = []
        for place, (_, context, continuation) in enumerate(requests):
            if not self._shared or len(context) + len(continuation) > limit:
                alone.append(place)
                continue
            group = latest.get(tuple(context))
            if group is None or group.width + len(continuation) - 1 > limit:
                group = latest[tuple(context)] = _Group(context=context, continuations=[], places=[])
                groups.append(group)
            group.continuations.append(continuation)
            group.places.append(place)
        return sorted(groups, key=lambda group: -group.width), alone

    def _score(self, groups: Sequence[_Group], results: list[tuple[float, bool] | None]) -> None:
        width = max(group.width for group in groups)
        inputs = torch.zeros(len(groups), width, dtype=torch.int64)
        positions = torch.zeros(len(groups), width, dtype=torch.int64)
        seen = torch.eye(width, dtype=torch.bool).repeat(len(groups), 1, 1)  # padding sees itself: no empty row
        for row, group in enumerate(groups):
            inputs[row, : len(group.tokens)] = torch.tensor(group.tokens)
            first = len(group.context)
            positions[row, :first] = torch.arange(first)
            seen[row, :first, :first] = torch.ones(first, first, dtype=torch.bool).tril()
            start = first
            for continuation in group.continuations:
                size = len(continuation) - 1
                stop = start + size
                positions[row, start:stop] = first + torch.arange(size)
                seen[row, start:stop, :first] = True
                seen[row, start:stop, start:stop] = torch.ones(size, size, dtype=torch.bool).tril()
                start = stop
        mask = torch.zeros(seen.shape, dtype=self.model.dtype).masked_fill(~seen, torch.finfo(self.model.dtype).min)
        with torch.inference_mode():
            logits = self.model(
                input_ids=inputs.to(self.device),
                position_ids=positions.to(self.device),
                attention_mask=mask[:, None].to(self.device),
                use_cache=False,
            ).logits
            for row, group in enumerate(groups):
                self._read(logits[row], group, results)

    def _read(self, logits: torch.Tensor, group: _Group, results: list[tuple[float, bool] | None]) -> None:
        """Take each continuation's predictions out of (width, vocabulary)."""
        last = len(group.context) - 1
        start = last + 1
        for place, continuation in zip(group.places, group.continuations, strict=True):
            stop = start + len(continuation) - 1
            predicted = torch.log_softmax(torch.cat([logits[last : last + 1], logits[start:stop]]).float(), dim=-1)
            truth = torch.tensor(continuation, device=logits.device)
            greedy = bool((predicted.argmax(-1) == truth).all())
            results[place] = (float(predicted.gather(1, truth[:, None]).sum()), greedy)
            start = stop
