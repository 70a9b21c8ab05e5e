"""How far a run is: what a checkpoint says beside tensors."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hfscale import console
from hfscale.errors import RunFolderError
from hfscale.training.checkpoint_files import versions
from hfscale.training.step import StepStats
from hfscale.training.throughput import Meter

if TYPE_CHECKING:
    from hfscale.schemas import TrainSettings
    from hfscale.training.best import BestModel
    from hfscale.training.checkpoints import Checkpoints


@dataclass
class Progress:
    """Of a run over `total_steps` optimizer steps; `facts` are what a run that goes on has to share with it.

    Args:
        facts: `settings` by dotted name, `data`: the fingerprint of the training examples, `num_processes`.
    """

    total_steps: int
    best: BestModel
    facts: dict[str, Any]
    meter: Meter = field(default_factory=Meter)
    step: int = 0
    unrecorded: StepStats | None = None
    """A step that was made, but not yet evaluated and logged."""
    tracker_run: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Under this name the trackers know the run, also when it goes on."""
    metrics_bytes: int = 0
    """How long `metrics.jsonl` was."""
    resumed_from: str | None = None
    """Name of the checkpoint that this process went on from."""
    changes: list[dict[str, Any]] = field(default_factory=list)
    """Settings that were changed on the way: `after_step`, and `settings` with [before, now] by name."""

    def state_dict(self) -> dict[str, Any]:
        """For `state.json`."""
        return {
            **self.facts,
            "step": self.step,
            "unrecorded": None if self.unrecorded is None else self.unrecorded._asdict(),
            "best": self.best.state_dict(),
            "meter": self.meter.state_dict(),
            "tracker_run": self.tracker_run,
            "metrics_bytes": self.metrics_bytes,
            "changes": self.changes,
        }

    def restore(self, checkpoints: Checkpoints, train: TrainSettings) -> None:
        """Go on from the run's checkpoint, if it has one: model, optimizer, random generators and all counters.

        Raises:
            RunFolderError: where the checkpoint is of another model or of other training examples.
        """
        state = checkpoints.load()
        if state is None:
            return
        self.step, self.metrics_bytes = state["step"], state["metrics_bytes"]
        if not checkpoints.of_another_run:
            self.tracker_run = state["tracker_run"]
        name = self.resumed_from = f"step-{self.step:06d}"
        allowed = any(setting.split(".")[0] == "data" for setting in train.allow_changes or [])
        if state["data"] != self.facts["data"] and not allowed:
            raise RunFolderError(
                f"the training examples are not those that {name} of {train.output_dir} has learned from; restore the "
                "data, choose another --train.output_dir, or allow it: --train.allow_changes '[data]'"
            )
        self.unrecorded = None if state["unrecorded"] is None else StepStats(**state["unrecorded"])
        self.best.load_state_dict(state["best"])
        self.meter.load_state_dict(state["meter"])
        self.changes = state["changes"]
        if checkpoints.changes:
            self.changes = [*self.changes, {"after_step": self.step, "settings": checkpoints.changes}]
        source = f" of {checkpoints.origin}" if checkpoints.of_another_run else ""
        console.say(f"resumed    from {name}{source}; {self.total_steps} steps in all")
        self._say_what_differs(state, checkpoints)

    def _say_what_differs(self, state: dict[str, Any], checkpoints: Checkpoints) -> None:
        """Both leave the order of the examples as it is, and may change the last bits."""
        before, now = state["num_processes"], self.facts["num_processes"]
        if before != now:
            console.warn(
                f"the run went on {before} process{'es' if before > 1 else ''} before, now on {now}: the same "
                "examples in the same order, other random numbers for dropout"
            )
        was, is_now = checkpoints.versions_before(), versions()
        differing = [
            f"{package} {was[package]} -> {is_now[package]}"
            for package in is_now
            if was.get(package) != is_now[package]
        ]
        if differing:
            console.warn(f"other versions than before, so the last bits may differ: {', '.join(differing)}")
