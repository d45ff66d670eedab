"""What architectures lack that no row reads, in words for the refusal."""

from __future__ import annotations

import re

_LACKS = (
    (
        r"^(t5|mt5|umt5|bart|mbart|pegasus|marian|m2m|blenderbot|led|longt5|prophetnet|plbart|whisper|florence|nllb|switch)",
        "an encoder-decoder: a second stack with cross-attention is not priced",
    ),
    (
        r"(clip|siglip|vit|dinov|swin|convnext|resnet|beit|detr|sam|pixtral|vision_model|segformer|depth|timm)",
        "a vision model without a language model",
    ),
    (r"(wav2vec|hubert|wavlm|seamless|speech|audio|musicgen|encodec|mimi|bark|vits)", "an audio model"),
    (
        r"(mamba|rwkv|xlstm|recurrent_gemma|zamba|hyena|retnet)",
        "recurrent or state-space layers of a kind that no row has",
    ),
    (
        r"^(kimi_linear|kimi_k3|minimax$|minimax_text|bailing_hybrid|olmo_hybrid|lfm3|plamo|qwen4)",
        "linear attention of a kind that no row has",
    ),
    (r"^(mimo_v2)", "values of another width than the keys"),
    (
        r"(moe|mixtral|gpt_oss|minimax|llama4|dbrx|arctic|grok|deepseek|kimi|longcat|hunyuan_v1_moe|jetmoe|ling|bailing|step3|ernie4_5_moe)",
        "a mixture of experts of a kind that no row has",
    ),
    (
        r"^(xlnet|reformer|longformer|big_bird|funnel|fnet|nystromformer|convbert|mobilebert|squeezebert|canine|perceiver)",
        "attention or layers of its own kind",
    ),
    (
        r"^(minicpmv|minicpmo|falcon_perception|ovis)",
        "a language model that the file does not set apart from its towers",
    ),
)
"""Pattern of a model_type or class -> what is in such a model that is not priced; the first that fits counts."""


def what_is_lacking(name: str) -> str:
    """What a model of this type or class has that no row prices; a general word where nothing is known of it."""
    return _lacking(name) or "nothing is known of this architecture"


def lacks_something(name: str) -> bool:
    """Whether a model of this type is known to have what no row prices."""
    return _lacking(name) is not None


def _lacking(name: str) -> str | None:
    return next((words for pattern, words in _LACKS if re.search(pattern, name.lower())), None)
