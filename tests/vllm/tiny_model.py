"""Write a tiny Llama checkpoint with made-up weights that a real vLLM loads and serves.

Nothing is downloaded: a byte-level tokenizer is trained on the lines below and the weights come
from a seeded generator, so equal arguments give equal weights.

    python tiny_model.py FOLDER [--kind random|chain]

random  the answer depends on every token of the prompt, repeats itself exactly at temperature 0
        and practically never stops by itself: made for binding a request to its answer.
chain   attention and MLP contribute nothing, so the next token depends on the last one only:
        at temperature 0 every prompt is answered with ANSWER and a stop.

Runs in the engine's environment (numpy, safetensors, tokenizers), not in the project's.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

Matrix: TypeAlias = NDArray[np.float32]

ANSWER = "This receipt was signed next to a very small model."
PAD, TURN, STOP = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
TOOL_OPEN, TOOL_CLOSE = "<tool_call>", "</tool_call>"

# What the tokenizer is trained on: enough whole words for readable answers, JSON for tool calls.
LINES = (
    ANSWER,
    "system user assistant tool function",
    "What is the weather like in Vienna tomorrow morning?",
    "The auditor reads the bundle offline and checks every line of it.",
    "Hashes of the request and of the answer are bound into one receipt.",
    '{"name": "lookup", "arguments": {"city": "Vienna", "days": 3}}',
    "one two three four five six seven eight nine ten 0 1 2 3 4 5 6 7 8 9",
)

# The Hermes convention (one JSON object between tool_call marks), which vLLM's parser reads.
CHAT_TEMPLATE = (
    "{%- if tools -%}"
    "{{ '<|im_start|>system\nYou may call these functions:\n' }}"
    "{%- for tool in tools -%}{{ tool | tojson ~ '\n' }}{%- endfor -%}"
    'Answer with <tool_call>{"name": "...", "arguments": {}}</tool_call>'
    "{{ '<|im_end|>\n' }}"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' ~ message.role ~ '\n' ~ (message.content or '') }}"
    "{%- for call in message.tool_calls or [] -%}"
    '<tool_call>{"name": {{ call.function.name | tojson }}, "arguments": '
    "{%- if call.function.arguments is string -%}{{ call.function.arguments }}"
    "{%- else -%}{{ call.function.arguments | tojson }}{%- endif -%}"
    "}</tool_call>"
    "{%- endfor -%}"
    "{{ '<|im_end|>\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes of the network, chosen so that one step on a CPU takes about a millisecond."""

    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    context: int = 8192

    @property
    def width(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim


def make_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        show_progress=False,
        special_tokens=[PAD, TURN, STOP],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(LINES * 4, trainer)
    # Not special: the tool parser has to see the marks in the decoded text.
    tokenizer.add_tokens([AddedToken(mark, normalized=False) for mark in (TOOL_OPEN, TOOL_CLOSE)])
    return tokenizer


def chain_head(tokenizer: Tokenizer, embedding: Matrix) -> Matrix:
    """Output weights under which each token of ANSWER has exactly one likely successor."""
    start = tokenizer.encode("\n").ids[-1]  # what ends the assistant's header
    path = [start, *tokenizer.encode(ANSWER).ids, tokenizer.token_to_id(STOP)]
    if len(set(path)) != len(path):
        message = "ANSWER repeats a token; with no memory the chain could not tell the two apart"
        raise SystemExit(message)
    head = np.zeros_like(embedding)
    for here, following in pairwise(path):
        head[following] = 4 * embedding[here] / np.linalg.norm(embedding[here])
    return head


def make_weights(tokenizer: Tokenizer, shape: Shape, kind: str) -> dict[str, Matrix]:
    draw = np.random.default_rng(20260101)

    def noise(rows: int, columns: int, scale: float) -> Matrix:
        return (draw.standard_normal((rows, columns)) * scale).astype(np.float32)

    rows = -(-tokenizer.get_vocab_size() // 64) * 64
    width, kv, inner = shape.width, shape.kv_width, 2 * shape.width
    ones = np.ones(width, np.float32)
    embedding = noise(rows, width, 1.0)
    chained = kind == "chain"
    head = chain_head(tokenizer, embedding) if chained else noise(rows, width, 0.15)
    # Output projections of zero leave the residual stream, hence the last token, untouched.
    out_scale = 0.0 if chained else 0.1
    weights = {"model.embed_tokens.weight": embedding, "lm_head.weight": head}
    weights["model.norm.weight"] = ones
    for number in range(shape.layers):
        layer = f"model.layers.{number}."
        weights[layer + "input_layernorm.weight"] = ones.copy()
        weights[layer + "post_attention_layernorm.weight"] = ones.copy()
        weights[layer + "self_attn.q_proj.weight"] = noise(width, width, 0.1)
        weights[layer + "self_attn.k_proj.weight"] = noise(kv, width, 0.1)
        weights[layer + "self_attn.v_proj.weight"] = noise(kv, width, 0.1)
        weights[layer + "self_attn.o_proj.weight"] = noise(width, width, out_scale)
        weights[layer + "mlp.gate_proj.weight"] = noise(inner, width, 0.1)
        weights[layer + "mlp.up_proj.weight"] = noise(inner, width, 0.1)
        weights[layer + "mlp.down_proj.weight"] = noise(width, inner, out_scale)
    return weights


def model_config(tokenizer: Tokenizer, shape: Shape, rows: int) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": rows,
        "hidden_size": shape.width,
        "intermediate_size": 2 * shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.context,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "bos_token_id": tokenizer.token_to_id(PAD),
        "pad_token_id": tokenizer.token_to_id(PAD),
        "eos_token_id": tokenizer.token_to_id(STOP),
        "dtype": "float32",
    }


def write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_model(folder: Path, kind: str) -> None:
    """Write tokenizer, template, configuration and weights into `folder` (made if absent)."""
    folder.mkdir(parents=True, exist_ok=True)
    shape, tokenizer = Shape(), make_tokenizer()
    weights = make_weights(tokenizer, shape, kind)
    rows = weights["lm_head.weight"].shape[0]
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": shape.context,
            "eos_token": STOP,
            "pad_token": PAD,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    )
    write_json(folder / "config.json", model_config(tokenizer, shape, rows))
    write_json(
        folder / "generation_config.json",
        {
            "eos_token_id": tokenizer.token_to_id(STOP),
            "pad_token_id": tokenizer.token_to_id(PAD),
            "do_sample": False,
        },
    )
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", choices=("random", "chain"), default="random")
    arguments = parser.parse_args()
    write_model(arguments.folder, arguments.kind)


if __name__ == "__main__":
    main()
