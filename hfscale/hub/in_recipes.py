"""What a recipe does with the Hub: push the complete model at its end, and the best one so far while it trains.

The latter is done by a thread that reads from the disk, and that nothing waits for before training is over.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from pathlib import Path

from hfscale import console
from hfscale.errors import HubError, Interrupted
from hfscale.hub.there import BEST
from hfscale.hub.upload import push, push_model, say_pushed
from hfscale.schemas import HubSettings
from hfscale.training.checkpoint_files import best_folders, step_of

SECONDS = 10.0
"""Between two looks at the folder of checkpoints."""
_thread: threading.Thread | None = None


@contextlib.contextmanager
def follow(hub: HubSettings | None, run: Path) -> Generator[None]:
    """In here, where `--hub.every_checkpoint` asks for it, the first process pushes each best model that is saved.

    The end doesn't wait for a push that is on its way; `publish` does.
    """
    global _thread
    if hub is None or not hub.every_checkpoint or not console.is_main_process():
        yield
        return
    ended = threading.Event()
    _thread = threading.Thread(target=_follow, args=(hub, run, ended), name="hub", daemon=True)
    _thread.start()
    try:
        yield
    finally:
        ended.set()
    if not best_folders(run):
        console.warn("--hub.every_checkpoint had no effect: nothing was evaluated, so that no model was the best")


def publish(hub: HubSettings | None, run: Path) -> None:
    """A recipe's last act, where `--hub.repo_id` asks for it: push the run's model, and never fail the run.

    Only the first process pushes. It has to come after all that the processes do together: they may long be gone.
    """
    if hub is None or not console.is_main_process():
        return
    try:
        if _thread is not None:
            _thread.join()  # two pushes at once would send the same weights twice
        say_pushed(push(run, hub), hub)
    except Interrupted:
        _say_unfinished(run, hub, "it was told to stop")
    except HubError as error:
        _say_unfinished(run, hub, str(error))
    except Exception as error:  # the model is on disk, and the run has come to its end
        _say_unfinished(run, hub, " ".join(str(error).split()) or type(error).__name__)


def _follow(hub: HubSettings, run: Path, ended: threading.Event) -> None:
    seen: Path | None = None
    while not ended.wait(SECONDS):
        newest = next(iter(best_folders(run)), None)
        if newest is None or newest == seen:
            continue
        seen = newest
        try:
            push_model(newest, hub, f"{BEST}, of step {step_of(newest)}")
            console.say(f"pushed     {hub.repo_id}: the best model so far, of step {step_of(newest)}")
        except HubError as error:
            if newest.is_dir():  # else a better one has taken its place
                console.warn(f"the best model so far was not pushed: {error}; training goes on")
        except FileNotFoundError:  # likewise
            continue
        except Exception as error:  # training goes on, whatever this thread meets
            console.warn(f"the best model so far was not pushed: {type(error).__name__}; training goes on")


def _say_unfinished(run: Path, hub: HubSettings, reason: str) -> None:
    console.warn(
        f"not pushed to {hub.repo_id}: {reason}. The model is complete in {run}/model, and `hfscale push {run}` "
        "uploads what is missing"
    )
