from .card import model_card as model_card
from .card import plain_usage as plain_usage
from .export_card import exported_card as exported_card
from .image_card import image_model_card as image_model_card
from .language_card import chat_model_card as chat_model_card
from .language_card import chat_usage as chat_usage
from .language_card import language_model_card as language_model_card
from .language_card import preference_model_card as preference_model_card
