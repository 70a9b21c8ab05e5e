from .fit_result import FitResult as FitResult
from .language_loss import language_model_loss as language_model_loss
from .loop import fit as fit
from .losses import classification_loss as classification_loss
from .losses import loss_sum as loss_sum
from .optimizers import build_optimizer as build_optimizer
from .preference_loss import PreferenceLoss as PreferenceLoss
from .schedules import learning_rate as learning_rate
