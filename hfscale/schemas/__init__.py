"""The settings that every recipe shares: frozen dataclasses that check themselves. No torch in here.

The string under a field is its help text, and the only place where it is written. Units stand in the name or in the
first words. `__post_init__` raises `ValueError` naming the flag and the way out.
"""

from hfscale.schemas.chat import AnswerSettings as AnswerSettings
from hfscale.schemas.chat import ConversationSettings as ConversationSettings
from hfscale.schemas.chat import PairSettings as PairSettings
from hfscale.schemas.chat import PreferenceSettings as PreferenceSettings
from hfscale.schemas.chat import check_chat as check_chat
from hfscale.schemas.chat import check_preferences as check_preferences
from hfscale.schemas.checks import require as require
from hfscale.schemas.compress import CompressSettings as CompressSettings
from hfscale.schemas.data import DataSettings as DataSettings
from hfscale.schemas.data import SourceSettings as SourceSettings
from hfscale.schemas.export import ExportSettings as ExportSettings
from hfscale.schemas.hub import HubSettings as HubSettings
from hfscale.schemas.language import CausalModelSettings as CausalModelSettings
from hfscale.schemas.language import CorpusSettings as CorpusSettings
from hfscale.schemas.language import LanguageModelSettings as LanguageModelSettings
from hfscale.schemas.language import MaskedModelSettings as MaskedModelSettings
from hfscale.schemas.language import MaskSettings as MaskSettings
from hfscale.schemas.language import SampleSettings as SampleSettings
from hfscale.schemas.language import TokenizerSettings as TokenizerSettings
from hfscale.schemas.language import check_metric as check_metric
from hfscale.schemas.language import check_samples as check_samples
from hfscale.schemas.language import check_tokenizer as check_tokenizer
from hfscale.schemas.lora import LoraSettings as LoraSettings
from hfscale.schemas.lora import num_soft_tokens as num_soft_tokens
from hfscale.schemas.model import ClassifierModelSettings as ClassifierModelSettings
from hfscale.schemas.model import ModelSettings as ModelSettings
from hfscale.schemas.optim import OptimSettings as OptimSettings
from hfscale.schemas.prune import PruneSettings as PruneSettings
from hfscale.schemas.quant import QuantSettings as QuantSettings
from hfscale.schemas.quant import check_adapter as check_adapter
from hfscale.schemas.rnn import RnnSettings as RnnSettings
from hfscale.schemas.seq2seq import SEQ2SEQ_METRICS as SEQ2SEQ_METRICS
from hfscale.schemas.seq2seq import GenerationSettings as GenerationSettings
from hfscale.schemas.seq2seq import Seq2SeqModelSettings as Seq2SeqModelSettings
from hfscale.schemas.seq2seq import Seq2SeqTask as Seq2SeqTask
from hfscale.schemas.seq2seq import TextPairSettings as TextPairSettings
from hfscale.schemas.seq2seq import check_seq2seq as check_seq2seq
from hfscale.schemas.tasks import METRICS as METRICS
from hfscale.schemas.tasks import Task as Task
from hfscale.schemas.tasks import check_best_metric as check_best_metric
from hfscale.schemas.tasks import check_task as check_task
from hfscale.schemas.tasks import with_columns as with_columns
from hfscale.schemas.train import NEUTRAL as NEUTRAL
from hfscale.schemas.train import Tracker as Tracker
from hfscale.schemas.train import TrainSettings as TrainSettings
from hfscale.schemas.train import with_length as with_length
from hfscale.schemas.vision import AugmentSettings as AugmentSettings
from hfscale.schemas.vision import CnnSettings as CnnSettings
from hfscale.schemas.vision import ImageDataSettings as ImageDataSettings
