"""What architectures lack that no row reads, in words for the refusal."""

from __future__ import annotations

import re
from collections.abc import Mapping

_DRAFT = "a draft for speculative decoding: it reads hidden states and the embedding of the model that it drafts for"
_LACKS = (
    (r"(eagle(?!.*(vl|chat))|dflash|dspark|domino|medusa|mtp|nextn|specul|draft|gemma4_assistant)", _DRAFT),
    (
        r"^(t5|mt5|umt5|bart|mbart|pegasus|marian|m2m|blenderbot|led|longt5|prophetnet|plbart|whisper|florence|nllb|switch)"
        r"|^(bigbird_pegasus|mvp|fsmt|rag$)|encoder-?decoder",
        "an encoder-decoder: a second stack with cross-attention is not priced",
    ),
    (
        r"(align|clip|clap|vit|tower|flava|aimv2|siglip2?|tipsv2|videoprism)(_2)?_text_model$",
        "the text encoder of a model of images or sound",
    ),
    (r"^(trocr|musicgen.*decoder|kosmos|blip)", "a decoder that attends to an image or a sound"),
    (r"^(layoutlmv|layoutxlm|lilt|markuplm|bros|tapas|udop)", "embeddings and attention of a page's layout"),
    (
        r"(clip|siglip|vit(?!s$)|dinov|swin|convnext|resnet|beit|detr|sam|pixtral|vision_model|segformer|depth|timm)",
        "a vision model without a language model",
    ),
    (r"(wav2vec|hubert|wavlm|seamless|speech|audio|musicgen|encodec|mimi|bark|vits)", "an audio model"),
    (
        r"^(zamba)",
        "transformer blocks whose weights several layers share, with adapters of each",
    ),
    (
        r"^(longcat)",
        "layers of two attentions and two MLPs around one mixture of experts, some of whose experts are none",
    ),
    (r"^(unlimited_ocr)", "windows beside which all tokens of images and prompts are seen"),
    (r"^(mistral_large4)", "layers that take the cache of an earlier one, with an indexer of its own kind"),
    (r"^(glm5_next|hy_v4|inkling2|muse_spark|axk2)", "streams or gates of the residual of a kind that no row has"),
    (r"^(inkling|zaya)", "attention and convolutions of a kind that no row has"),
    (
        r"(mamba|rwkv|xlstm|hyena|retnet)",
        "recurrent or state-space layers of a kind that no row has",
    ),
    (
        r"^(lfm3|plamo|qwen4)",
        "linear attention of a kind that no row has",
    ),
    (
        r"(moe|mixtral|gpt_oss|minimax|llama4|dbrx|arctic|grok|deepseek|kimi|longcat|hunyuan_v1_moe|jetmoe|ling|bailing|step3|ernie4_5_moe)",
        "a mixture of experts of a kind that no row has",
    ),
    (r"^(longformer)", "attention in windows beside tokens that see all by projections of their own"),
    (r"^(mobilebert)", "a narrow path through each layer, with several MLPs in it"),
    (r"^(squeezebert)", "convolutions in groups in place of linears"),
    (r"^(convbert)", "convolutions of spans beside attention"),
    (r"^(fnet)", "Fourier transforms in place of attention"),
    (r"^(xlnet)", "two streams of attention with relative positions"),
    (r"^(diffllama)", "attention that is the difference of two"),
    (r"^(doge)", "masks that values make, and experts of single features"),
    (r"^(luke)", "a head over entities beside the words"),
    (r"^(xmod)", "adapters of each language in each layer"),
    (r"^(xlm|flaubert)($|model|for|with)", "layers whose parts stand in several lists of modules"),
    (r"^(roc_?bert)", "tables of shapes and sounds of letters"),
    (r"^(cpmant)", "relative positions of segments and a prompt of its own"),
    (r"^(blt)", "several models over bytes and patches of them"),
    (r"^(reformer|funnel|nystromformer|canine|perceiver|mra|yoso)", "attention of its own kind, to parts or sums"),
    (
        r"^(minicpmv|minicpmo|falcon_perception|ovis)",
        "a language model that the file does not set apart from its towers",
    ),
)
"""Pattern of a model_type or class -> what is in such a model that is not priced; the first that fits counts."""


_DRAFT_KEYS = ("draft_vocab_size", "eagle_config", "dflash_config", "speculators_config")
"""Fields that only drafts have, some of which name the class of a whole model (EAGLE-3's own code does)."""


def draft_key(fields: Mapping[str, object]) -> str | None:
    """The field that says of a configuration that it is a draft's; None for a whole model."""
    return next((key for key in _DRAFT_KEYS if fields.get(key) is not None), None)


def what_is_lacking(*names: str, default: str = "nothing is known of this architecture") -> str:
    """What a model of this type or class has that no row prices, by the first name of which something is known; else
    `default`."""
    return next((words for name in names if (words := _lacking(name))), default)


def lacks_something(name: str) -> bool:
    """Whether a model of this type is known to have what no row prices."""
    return _lacking(name) is not None


def _lacking(name: str) -> str | None:
    return next((words for pattern, words in _LACKS if re.search(pattern, name.lower())), None)
