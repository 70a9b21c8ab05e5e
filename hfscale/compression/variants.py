"""The smaller models that can be made of a trained one, each in a folder of its own, or why it can't be made."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hfscale.compression.exporting import processor_of
from hfscale.compression.kinds import SavedModel, find_model
from hfscale.compression.merging import find_base, load_adapted, merge
from hfscale.compression.prune_run import write_pruned
from hfscale.compression.pruning_units import refuse_unknown
from hfscale.compression.quantizing import halve, quantize, weights_bytes
from hfscale.compression.refusals import PRUNABLE
from hfscale.errors import HfscaleError, ModelError
from hfscale.models import origin_of
from hfscale.models.locate import locate_model
from hfscale.schemas import CompressSettings, ModelSettings, PruneSettings
from hfscale.schemas.export import Bits

FULL = "full"
MADE = (FULL, "merged", "bfloat16", "8 bits", "4 bits")
"""Names of rows that are not those of folders; those of pruned models begin with `pruned`."""
NAMES: dict[Bits, str] = {16: "bfloat16", 8: "8 bits", 4: "4 bits"}


@dataclass(frozen=True)
class Variant:
    """One choice."""

    name: str
    folder: Path | None = None
    """Where it is; None where it couldn't be made."""
    base: ModelSettings | None = None
    """Of an adapter: the model that it is loaded with."""
    bits: Bits | None = None
    """As in `hfscale export`."""
    sparsity: float | None = None
    note: str = ""
    """Why it couldn't be made, or what to know about it."""

    @property
    def disk_bytes(self) -> int | None:
        """Bytes of its weights files, with those of an adapter's base; None where that isn't in a folder."""
        assert self.folder is not None
        found = weights_bytes(self.folder)
        if self.base is None:
            return found
        base = Path(locate_model(self.base)[0])
        return found + weights_bytes(base) if base.is_dir() else None


def full_model(saved: SavedModel, settings: CompressSettings) -> Variant:
    """The model as it was trained, in float32.

    Raises:
        ModelError: for one in few bits, or an adapter whose base is not there.
    """
    if not saved.is_adapter:
        if getattr(saved.config, "quantization_config", None) is not None:
            raise ModelError(f"{saved.folder} holds its weights in few bits already; give the run it was made from")
        return Variant(FULL, saved.folder, note="float32")
    base = find_base(saved, settings.base)
    return Variant(FULL, saved.folder, base, note=f"float32: {Path(origin_of(base.name)).name} and the adapter")


def make_variants(
    saved: SavedModel, full: Variant, settings: CompressSettings, also: list[Path], run: Path, folder: Path
) -> Iterator[Variant]:
    """All but the full model, each written into a folder inside of `folder`, and those that are there already."""
    whole = saved
    if full.base is not None:
        whole = saved.moved(folder / "merged")
        merged = _made(Variant("merged"), lambda: _merge(saved, full.base, whole))
        yield merged
        if merged.folder is None:
            return
    for bits in NAMES:
        yield _in_bits(whole, bits, folder / f"{bits}-bits")
    for sparsity in settings.sparsities:
        yield _pruned(whole, sparsity, folder / f"pruned-{sparsity:g}")
    for given in also:
        yield _given(given, saved, run)


def _made(variant: Variant, make: Callable[[], Path]) -> Variant:
    """The variant that `make` writes; what it refuses is the reason for its absence. What it says is not for here."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return dataclasses.replace(variant, folder=make())
    except HfscaleError as error:
        return dataclasses.replace(variant, note=" ".join(str(error).split()))


def _merge(saved: SavedModel, base: ModelSettings | None, whole: SavedModel) -> Path:
    assert base is not None
    merge(load_adapted(saved, base)).save_pretrained(whole.folder)
    processor = processor_of(saved, base)
    if processor is not None:
        processor.save_pretrained(whole.folder)
    return whole.folder


def _in_bits(whole: SavedModel, bits: Bits, folder: Path) -> Variant:
    def make() -> Path:
        if whole.kind == "image":
            raise ModelError("hfscale export has no such form of a network of train_cnn.py")
        if bits == 16:
            halve(whole, folder)
        else:
            quantize(whole, bits, folder)
        return folder

    notes: dict[Bits, str] = {16: "all weights", 8: "linear layers, LLM.int8", 4: "linear layers, nf4"}
    return _made(Variant(NAMES[bits], bits=bits, note=notes[bits]), make)


def _pruned(whole: SavedModel, sparsity: float, folder: Path) -> Variant:
    def make() -> Path:
        if whole.kind in ("causal", "masked", "seq2seq"):
            raise ModelError(PRUNABLE)
        model_type = str(whole.config.model_type)
        refuse_unknown(model_type, whole.folder)
        write_pruned(
            whole.folder, model_type, whole.run, PruneSettings(method="structured", sparsity=sparsity), folder
        )
        return folder

    note = "structured, not trained since (no recovery)"
    return _made(Variant(f"pruned {sparsity:g}", sparsity=sparsity, note=note), make)


def _given(given: Path, saved: SavedModel, run: Path) -> Variant:
    """A folder that is there: of a model that answers the same questions."""

    def make() -> Path:
        found = find_model(given, run)
        if found.is_adapter:
            raise ModelError("holds an adapter; give what hfscale export --merge makes of it")
        if (found.kind, found.config.id2label) != (saved.kind, saved.config.id2label):
            raise ModelError("holds a model for another task or other labels than the run's")
        return found.folder

    return _made(Variant(row_name(given), note="as it is"), make)


def row_name(given: Path) -> str:
    """What the row of a model that is there is called: its folder, or its run's."""
    folder = given.resolve()
    return folder.parent.name if folder.name == "model" else folder.name
