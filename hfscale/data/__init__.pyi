from .batching import EvalBatches as EvalBatches
from .batching import TrainBatches as TrainBatches
from .examples import load_examples as load_examples
from .examples import read_texts as read_texts
from .labels import Labels as Labels
from .splits import Splits as Splits
from .splits import load_splits as load_splits
from .tokenization import tokenize as tokenize
