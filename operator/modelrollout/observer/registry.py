"""All that is observed: finds the target of a request, decodes what the servers queued, counts, and asks the arms."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from modelrollout.observer.comparing import Answer
from modelrollout.observer.decoding import Inference, from_grpc, from_rest
from modelrollout.observer.intake import Copy, Protocol
from modelrollout.observer.labelling import LONGEST_LABEL, Refusal
from modelrollout.observer.lives import Lives
from modelrollout.observer.target import Target
from modelrollout.observer.tensors import MalformedError
from modelrollout.observer.wishes import Arms, Directory, Wish
from modelrollout.profile.bins import category

_LOGGER = logging.getLogger(__name__)

NOBODY = ""
LONGEST_SLICE = 63
MOST_ROWS = 4096

Ask = Callable[[str, Arms, Inference], Awaitable[Mapping[str, Answer | None]]]
"""Asks the arms of a namespace the same request; None for an arm that did not answer."""


class Registry:
    """The targets by name.

    Parameters
    ----------
    monotonic
        Seconds of a clock that only goes forward.
    wall
        Unix seconds.

    """

    def __init__(self, monotonic: Callable[[], float], wall: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lives = Lives(wall)
        self.life = self._lives.begin()
        self._directory = Directory()
        self._parse: Callable[[bytes], object] | None = None
        self.targets: dict[str, Target] = {}
        self.stray: Counter[tuple[str, str]] = Counter()
        self.refused: Counter[tuple[str, str]] = Counter()

    def follow(self, wishes: Mapping[str, Wish]) -> None:
        """Take over what is asked for now; the counts of a ModelDeployment that is gone go with it."""
        now = self._monotonic()
        for name, wish in wishes.items():
            if name in self.targets:
                self.targets[name].follow(wish, now)
            else:
                self.targets[name] = Target(wish, now, self._lives)
        self.targets = {name: target for name, target in self.targets.items() if name in wishes}
        self._directory = Directory(wishes.values())

    def outcome(self, protocol: Protocol, outcome: str, host: str = "", model: str = "") -> None:
        """Count a request that is not queued (dropped, too large)."""
        name, _ = self._directory.find(host, model)
        if name is None and len(self.targets) == 1:
            name = next(iter(self.targets))
        self._count(name, protocol, outcome)

    def unsupported(self, message: bytes) -> None:
        """Count a gRPC request that is not looked at, for the model that it names. Never raises."""
        try:
            model = str(self._message(message).model_name)
        except MalformedError:
            model = ""
        self.outcome(Protocol.GRPC, "unsupported", model=model)

    def digest(self, copies: Iterable[Copy]) -> list[tuple[Target, Inference]]:
        """Decode and count; returns the requests that the arms shall be asked. Never raises for what it is given."""
        decoded: dict[tuple[str, Protocol], list[Inference]] = {}
        for copy in copies:
            try:
                found = self._decode(copy)
            # Whatever a foreign body makes of a decoder, the next one is counted.
            except (ValueError, TypeError, OverflowError, RecursionError, MemoryError):
                self.outcome(copy.protocol, "malformed", copy.host, copy.model)
                continue
            name, serves = self._directory.find(copy.host, found.model)
            if name is None or not serves:
                self._count(name, copy.protocol, "unknown_model")
            else:
                decoded.setdefault((name, copy.protocol), []).append(found)
        wanted: list[tuple[Target, Inference]] = []
        for (name, protocol), inferences in decoded.items():
            target = self.targets[name]
            target.count(protocol, inferences)
            # Also those that the profile is not about: what the arms answer to them is not known before.
            wanted += [(target, each) for each in inferences if self._is_sampled(target, each)]
        return wanted

    def label(self, name: str | None, entry: object) -> Refusal | None:
        """Join one label (``id``, ``label``, ``slice``); ``name`` None: whichever ModelDeployment knows the id."""
        known = self.targets if name is None else {name: self.targets[name]} if name in self.targets else {}
        targets = [target for target in known.values() if target.joiner is not None]
        refusal, target = self._label(targets, entry)
        if refusal is not None:
            refused = self.refused if target is None else target.refused
            refused["label", refusal.value] += 1
        return refusal

    def _label(self, targets: list[Target], entry: object) -> tuple[Refusal | None, Target | None]:
        only = targets[0] if len(targets) == 1 else None
        if not targets:
            return Refusal.NOT_ASKED_FOR, None
        read = _read_label(entry)
        if read is None:
            return Refusal.MALFORMED, only
        request, truth, part = read
        for target in targets:
            joiner = target.joiner
            if joiner is not None and joiner.knows(request):
                return joiner.label(request, truth, part, self._monotonic()), target
        return Refusal.UNKNOWN_ID, only

    def _decode(self, copy: Copy) -> Inference:
        if copy.protocol is Protocol.GRPC:
            found = from_grpc(self._message(copy.body))
        else:
            found = from_rest(copy.model, copy.body, copy.header_length)
        if not found.id and copy.request_id:
            return Inference(found.model, copy.request_id, found.inputs, found.repeatable)
        return found

    def _message(self, body: bytes) -> Any:
        if self._parse is None:
            from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
            from tritonclient.grpc import service_pb2

            def parse(data: bytes) -> object:
                try:
                    return service_pb2.ModelInferRequest.FromString(data)
                except DecodeError as error:
                    raise MalformedError("message") from error

            self._parse = parse
        return self._parse(body)

    def _is_sampled(self, target: Target, inference: Inference) -> bool:
        arms, bucket = target.wish.arms, target.bucket
        if bucket is None or not arms.names:
            return False
        if not inference.repeatable:
            target.refused["comparison", "not_repeatable"] += 1
            return False
        return bucket.take(self._monotonic())

    def _count(self, name: str | None, protocol: Protocol, outcome: str) -> None:
        counted = self.stray if name is None else self.targets[name].requests
        counted[protocol, outcome] += 1


def _read_label(entry: object) -> tuple[str, list[str], str] | None:
    """Id, the true label of each row, and slice; None where it is malformed."""
    if not isinstance(entry, dict) or not {"id", "label"} <= set(entry) <= {"id", "label", "slice"}:
        return None
    # Tables write ids and slices that are numbers as such; requests have them as text.
    request, part = (
        str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        for value in (entry["id"], entry.get("slice", ""))
    )
    raw = entry["label"]
    if not isinstance(request, str) or not 0 < len(request) <= 128 or not isinstance(part, str):
        return None
    if len(part) > LONGEST_SLICE:
        return None
    values = raw if isinstance(raw, list) else [raw]
    if not 0 < len(values) <= MOST_ROWS or not all(isinstance(value, str | int | float) for value in values):
        return None
    truth = [category(value) for value in values]
    found = [value for value in truth if value is not None]
    if len(found) < len(truth) or any(len(name) > LONGEST_LABEL for name in found):
        return None
    return request, found, part
