"""What a run has read beside what its key covers: who asked for it, and whether it is as it was."""
