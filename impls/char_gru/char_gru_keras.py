"""A character model as a Keras model. ``layers.GRU(reset_after=True)`` is torch's GRU.

Its gates are in the order z, r, h, and the biases of the input and the hidden part are the two rows of one tensor.
"""

import keras
import tensorflow as tf

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.keras_trainer import KerasTrainer

LAYOUT = (
    Slot("embedding/table", "embedding/embeddings"),
    Slot("gru/input_kernel", "gru/gru_cell/kernel", gates=(1, 0, 2)),
    Slot("gru/recurrent_kernel", "gru/gru_cell/recurrent_kernel", gates=(1, 0, 2)),
    Slot("gru/input_bias", "gru/gru_cell/bias", gates=(1, 0, 2), index=0),
    Slot("gru/recurrent_bias", "gru/gru_cell/bias", gates=(1, 0, 2), index=1),
    Slot("gru/initial_state", "initial_state"),
    Slot("dense/kernel", "dense/kernel"),
    Slot("dense/bias", "dense/bias"),
)


class CharGru(keras.Model):
    def __init__(self, characters: int, hidden: int, dtype: str) -> None:
        super().__init__(dtype=dtype)
        self.embedding = keras.layers.Embedding(characters, hidden, dtype=dtype, name="embedding")
        # On a GPU, cuDNN's kernel has no float64 in Keras. The layer's own orthogonal initial values need a QR
        # decomposition, which TensorFlow lacks in bfloat16; the case sets its own values later.
        self.gru = keras.layers.GRU(
            hidden,
            return_sequences=True,
            reset_after=True,
            use_cudnn=False,
            recurrent_initializer="zeros",
            dtype=dtype,
            name="gru",
        )
        self.dense = keras.layers.Dense(characters, dtype=dtype, name="dense")
        self.initial_state = self.add_weight(shape=(1, hidden), dtype=dtype, name="initial_state")  # never used

    def call(self, x: tf.Tensor) -> tf.Tensor:
        embedded = self.embedding(x)  # (T,) -> (T, H)
        states = self.gru(embedded[None])[0]  # (1, T, H) -> (T, H)
        return self.dense(states)  # (T, H) -> (T, characters)


def build(case: Case, dtype: str, device: str) -> KerasTrainer:
    characters, hidden = case.initial()["embedding/table"].shape
    return KerasTrainer(case, dtype, device, CharGru(characters, hidden, dtype), LAYOUT)
