"""What a model computes between its layers, where no layer says it: told from the tensors before and behind."""
