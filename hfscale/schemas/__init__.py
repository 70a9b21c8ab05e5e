"""The settings that every recipe shares: frozen dataclasses that check themselves. No torch in here.

The string under a field is its help text, and the only place where it is written. Units stand in the name or in the
first words. `__post_init__` raises `ValueError` naming the flag and the way out.
"""

from hfscale.schemas.data import DataSettings as DataSettings
from hfscale.schemas.data import SourceSettings as SourceSettings
from hfscale.schemas.language import CorpusSettings as CorpusSettings
from hfscale.schemas.language import LanguageModelSettings as LanguageModelSettings
from hfscale.schemas.language import TokenizerSettings as TokenizerSettings
from hfscale.schemas.model import ModelSettings as ModelSettings
from hfscale.schemas.optim import OptimSettings as OptimSettings
from hfscale.schemas.tasks import METRICS as METRICS
from hfscale.schemas.tasks import ProblemType as ProblemType
from hfscale.schemas.tasks import check_task as check_task
from hfscale.schemas.train import Tracker as Tracker
from hfscale.schemas.train import TrainSettings as TrainSettings
