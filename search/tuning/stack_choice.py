"""Whether the trials of a search train in stacks, and how many in each: as asked, or as measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from search.config.redaction import first_line
from search.errors import UsageError
from search.tuning.resources import Share
from search.tuning.stack_servers import measured_slots

if TYPE_CHECKING:
    from search.config.spec import SearchSpec

FEWEST_TRIALS = 16  # below, auto does not measure: the processes of the trials cost more than a stack gains


def refuse_stack(spec: SearchSpec) -> None:
    """Refuse stacks that were asked for and cannot be; raises UsageError with the reason."""
    if spec.site.stack not in ("off", "auto") and (obstacle := _obstacle(spec)):
        raise UsageError(f"--stack {spec.site.stack}: {obstacle}. Leave it out.")


def stacked_share(spec: SearchSpec, data: Any, share: Share, report: Callable[[str], object]) -> Share:
    """Return the share with the slots that ``--stack`` asks for; of auto, say what was chosen and why."""
    asked = spec.site.stack
    if asked == "off":
        return share
    if asked != "auto":
        return share.stacked(int(asked), spec.most_concurrent)
    slots, reason = _chosen(spec, data, share)
    stacked = share.stacked(slots, spec.most_concurrent)
    if stacked.slots == 1:
        report(f"stack    off: {reason or 'there is a core or GPU for each trial'}")
    else:
        report(f"stack    {stacked.slots} trials in each: {slots} slots train most, measured")
    return stacked


def _chosen(spec: SearchSpec, data: Any, share: Share) -> tuple[int, str]:
    """Return the number of slots; of 1 also why."""
    if obstacle := _obstacle(spec):
        return 1, obstacle
    if spec.most_concurrent < FEWEST_TRIALS:
        return 1, f"fewer than {FEWEST_TRIALS} trials would train at a time, whose processes cost more than it gains"
    point = {name: value for name, value in spec.space.fixed.items() if name in spec.workload.config.model_fields}
    try:
        slots = measured_slots(spec, data, share, point | {"epochs": spec.epochs})
    except Exception as error:  # whatever a training or Ray raises: the search itself needs no stack
        return 1, f"it could not be measured ({first_line(error)})"
    return slots, "" if slots > 1 else "a stack trains no more than one trial after another, measured"


def _obstacle(spec: SearchSpec) -> str:
    if spec.workload.training.stack_type is None:
        return f"the training of {spec.workload.name} cannot be stacked; each of its trials trains in its own process"
    if spec.scheduler == "pbt":
        return "population based training takes turns on processes of its own and changes trials as they run"
    return ""
