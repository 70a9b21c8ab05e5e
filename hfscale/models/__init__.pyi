from .builtin import origin_of as origin_of
from .text import TextClassifier as TextClassifier
from .text import load_text_classifier as load_text_classifier
from .text import save_text_classifier as save_text_classifier
from .text import saved_text_classifier as saved_text_classifier
