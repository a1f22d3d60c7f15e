"""The mistakes that a port can make, each a line of the user's code that is changed, and what is right to say of it."""

from __future__ import annotations

from parity.tests.ports.mistakes import gpt, llama, lstm, resnet, unet
from parity.tests.ports.mistakes.mistake import Mistake

__all__ = ["MISTAKES", "Mistake"]

MISTAKES = (*resnet.MISTAKES, *gpt.MISTAKES, *llama.MISTAKES, *lstm.MISTAKES, *unet.MISTAKES)
