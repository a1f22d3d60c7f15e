"""Look into runs of a Keras model on TensorFlow."""
