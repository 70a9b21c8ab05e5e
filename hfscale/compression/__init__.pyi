from .comparison import Comparison as Comparison
from .comparison import compare as compare
from .exporting import export as export
from .kinds import SavedModel as SavedModel
from .kinds import find_model as find_model
from .merging import merge as merge
from .quantizing import quantize as quantize
