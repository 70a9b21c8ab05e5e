from . import compression as compression
from . import config as config
from . import console as console
from . import data as data
from . import errors as errors
from . import evaluation as evaluation
from . import files as files
from . import hub as hub
from . import launch as launch
from . import models as models
from . import runs as runs
from . import schemas as schemas
from . import training as training

__version__: str
