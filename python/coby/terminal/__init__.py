"""What a person at a terminal sees: `View` of a recording that is played, `Board` of a daemon."""

from coby.terminal.board import Board
from coby.terminal.play import DRAWN, View
from coby.terminal.screen import Screen, changes, save_picture

__all__ = ["DRAWN", "Board", "Screen", "View", "changes", "save_picture"]
