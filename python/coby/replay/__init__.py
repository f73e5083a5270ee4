"""The past, in the form of the present."""

from coby.replay.tape import TapeReplay

__all__ = ["TapeReplay"]
