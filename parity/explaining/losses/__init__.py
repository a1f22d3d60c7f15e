"""What a run's loss is, read off its prediction and the loss's gradient for it, where no targets were recorded."""
