"""Training of SR networks: one loop, into which methods hook their losses and gradient edits."""

from ptqsr.training.config import TrainConfig
from ptqsr.training.hooks import TrainingHook
from ptqsr.training.loop import Trainer

__all__ = ["TrainConfig", "Trainer", "TrainingHook"]
