"""The control plane: who may use what, and how much of it. Every change to that passes `directory`."""
