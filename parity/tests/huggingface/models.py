"""Four small models of ``transformers``, drawn at random, in torch and in flax, and how each is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

WORDS, ROWS, LENGTH = 50, 4, 12
CLASSES, CHANNELS = 3, 3
Inputs = Mapping[str, np.ndarray]
_BLOCKS = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 64}
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@dataclass(frozen=True)
class Pair:
    """A model that ``transformers`` has in torch and in flax.

    Attributes:
        torch: The torch class.
        flax: The flax class.
        config: Its configuration, by the arguments that are not the defaults.
        settings: These arguments.
        wrong: What a port has otherwise: other settings, or data that show the mistake.
        layer: Words of the line that must name the layer of that mistake.
        image: The side of an image, 0 for text.
        shape: What flax's class needs to be built, if not the default.
    """

    torch: Any
    flax: Any
    config: Any
    settings: Mapping[str, Any]
    wrong: Mapping[str, Any]
    layer: tuple[str, ...]
    image: int = 0
    shape: Mapping[str, Any] = field(default_factory=dict)
    loss_of_tokens: bool = False

    def build_torch(self, **other: Any) -> torch.nn.Module:
        """Draw the torch model."""
        torch.manual_seed(0)
        model: torch.nn.Module = self.torch(self.config(**{**self.settings, **other})).train()
        return model

    def build_flax(self) -> tuple[Any, dict[str, Any]]:
        """Draw the flax module, and its variables, whose values are others."""
        model = self.flax(self.config(**self.settings), seed=0, **self.shape)
        params = jax.tree.map(np.array, dict(model.params))
        return model.module, params if "params" in params else {"params": params}

    def batch(self, step: int, least: int = 1) -> tuple[Inputs, np.ndarray]:
        """Draw the inputs and the labels of an update. No word is below ``least``."""
        random = np.random.RandomState(step)
        if self.image:
            pixels = random.normal(size=(ROWS, CHANNELS, self.image, self.image)).astype(np.float32)
            return {"pixel_values": pixels}, random.randint(0, CLASSES, ROWS)
        words = random.randint(least, WORDS, (ROWS, LENGTH))
        if least == 0:
            words[:, 0] = 0
        return {"input_ids": words}, words if self.loss_of_tokens else random.randint(0, CLASSES, ROWS)

    def arguments(self, inputs: Inputs) -> dict[str, Any]:
        """Give what flax's module is called with, which fills in nothing by itself."""
        if self.image:
            return {"pixel_values": jnp.moveaxis(jnp.asarray(inputs["pixel_values"]), 1, 3)}
        words = jnp.asarray(inputs["input_ids"])
        given = {
            "input_ids": words,
            "attention_mask": jnp.ones_like(words),
            "position_ids": jnp.broadcast_to(jnp.arange(LENGTH), words.shape),
        }
        return given if self.loss_of_tokens else given | {"token_type_ids": jnp.zeros_like(words), "head_mask": None}


def in_pieces(logits: Any, labels: Any, tokens: bool) -> tuple[Any, Any]:
    """Give the logits and labels of a cross-entropy, of the next words for a model of language."""
    return (logits[:, :-1].reshape(-1, WORDS), labels[:, 1:].reshape(-1)) if tokens else (logits, labels)


PAIRS: Mapping[str, Callable[[], Pair]] = {
    "gpt2": lambda: Pair(
        transformers.GPT2LMHeadModel,
        transformers.FlaxGPT2LMHeadModel,
        transformers.GPT2Config,
        {"n_layer": 2, "n_head": 4, "n_embd": 32, "vocab_size": WORDS, "n_positions": 16}
        | dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
        {"layer_norm_epsilon": 1e-3},
        ("transformer.h.0.ln_1 (LayerNorm)", "transformer/h/0/ln_1 (LayerNorm)", "epsilon 0.001 against 1e-05"),
        loss_of_tokens=True,
    ),
    "bert": lambda: Pair(
        transformers.BertForSequenceClassification,
        transformers.FlaxBertForSequenceClassification,
        transformers.BertConfig,
        _BLOCKS | _NO_DROPOUT | {"num_labels": CLASSES, "vocab_size": WORDS, "max_position_embeddings": 16},
        {"least": 0},  # flax's model has no padding index: a difference that nobody planted
        ("bert.embeddings.word_embeddings (Embedding)", "padding_index 0 against None"),
    ),
    "vit": lambda: Pair(
        transformers.ViTForImageClassification,
        transformers.FlaxViTForImageClassification,
        transformers.ViTConfig,
        # At the usual .02 activations are so small that both forms of GELU agree within rounding.
        _BLOCKS | _NO_DROPOUT | {"num_labels": CLASSES, "image_size": 16, "patch_size": 4, "initializer_range": 0.2},
        {"hidden_act": "gelu_new"},
        ("vit.encoder.layer.0.intermediate", "vit/encoder/layer/0/intermediate"),
        image=16,
    ),
    "resnet": lambda: Pair(
        transformers.ResNetForImageClassification,
        transformers.FlaxResNetForImageClassification,
        transformers.ResNetConfig,
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic", "num_labels": CLASSES},
        {"hidden_act": "gelu"},
        ("resnet.embedder.embedder.activation (GELUActivation)", "the first run computes gelu"),
        image=32,
        shape={"input_shape": (1, 32, 32, CHANNELS)},
    ),
}
"""By name. The classes are looked up when a model is asked for: to import one takes a while."""
