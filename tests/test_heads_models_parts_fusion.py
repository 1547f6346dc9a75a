"""Cross-modal fusion beside PyTorch's own attention, and what it does and does not depend on."""

from dataclasses import replace

import pytest
import torch
from batches import pad, random_batch, select, trim
from test_heads_models_parts_layers import torch_attention
from torch import Tensor, nn

from heads.models.parts.fusion import CrossModalFusion, CrossModalLayer, FusionOptions

DIM = 12
SMALL = FusionOptions(layers=2, heads=3, ffn=16)
BOTH = ("text", "audio")
DIMS = dict.fromkeys((*BOTH, "vision"), DIM)


@pytest.fixture
def batch():
    return random_batch(dims=DIMS, dtype=torch.float64)


def fusion(options: FusionOptions = SMALL, modalities: tuple[str, ...] = BOTH) -> CrossModalFusion:
    torch.manual_seed(0)
    return CrossModalFusion(options, DIM, modalities).double().eval()


def with_cls(module: CrossModalFusion, batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    tokens = {m: torch.cat([module.cls[m].expand(len(x), 1, -1), x], 1) for m, x in batch.features.items()}
    return tokens, {m: torch.cat([torch.ones(len(mask), 1, dtype=torch.bool), mask], 1) for m, mask in batch.masks.items()}


def layer_of_torch(layer: CrossModalLayer, tokens: dict[str, Tensor], masks: dict[str, Tensor]) -> dict[str, Tensor]:
    """A layer for two modalities, of PyTorch's attention and layer norm with the same weights."""
    crossed, result = {}, {}
    for modality, other in (BOTH, BOTH[::-1]):
        read, _ = torch_attention(layer.cross[modality]).eval()(tokens[modality], tokens[other], tokens[other], ~masks[other])
        crossed[modality] = layer.after_cross[modality].norm(tokens[modality] + read)
    for modality, x in crossed.items():
        read, _ = torch_attention(layer.attend[modality]).eval()(x, x, x, ~masks[modality])
        x = layer.after_attend[modality].norm(x + read)
        first, _, second = layer.feed_forward[modality]
        result[modality] = layer.after_feed_forward[modality].norm(x + second(first(x).relu()))
    return result


def test_a_layer_equals_torchs_modules_and_reads_both_modalities_at_once(batch):
    module = fusion()
    tokens, masks = with_cls(module, batch)
    found, expected = module.layers[0](tokens, masks, only_cls=False), layer_of_torch(module.layers[0], tokens, masks)
    for modality in BOTH:
        torch.testing.assert_close(found[modality], expected[modality], rtol=0, atol=1e-10)


def test_the_result_is_the_cls_of_each_modality_behind_all_layers(batch):
    module = fusion()
    tokens, masks = with_cls(module, batch)
    for layer in module.layers:
        tokens = layer_of_torch(layer, tokens, masks)
    expected = torch.cat([tokens["text"][:, 0], tokens["audio"][:, 0]], -1)
    torch.testing.assert_close(module(batch.features, batch.masks), expected, rtol=0, atol=1e-10)


def test_only_cls_is_the_first_token_of_the_full_layer(batch):
    module = fusion()
    tokens, masks = with_cls(module, batch)
    full, short = (module.layers[0](tokens, masks, only_cls=only) for only in (False, True))
    for modality in BOTH:
        assert short[modality].shape == (3, 1, DIM)
        torch.testing.assert_close(short[modality], full[modality][:, :1], rtol=0, atol=1e-12)


def test_norms_have_the_epsilon_of_bert():
    norms = [layer for layer in fusion().modules() if isinstance(layer, nn.LayerNorm)]
    assert len(norms) == 2 * 3 * 2
    assert {norm.eps for norm in norms} == {1e-12}


@pytest.mark.parametrize("modality", BOTH)
def test_the_order_of_time_steps_does_not_matter(batch, modality):
    order = torch.randperm(batch.masks[modality].shape[1], generator=torch.Generator().manual_seed(1))
    features = {**batch.features, modality: batch.features[modality][:, order]}
    masks = {**batch.masks, modality: batch.masks[modality][:, order]}
    assert not torch.equal(masks[modality], batch.masks[modality])
    module = fusion()
    torch.testing.assert_close(module(features, masks), module(batch.features, batch.masks), rtol=0, atol=1e-12)


def test_padding_does_not_matter(batch):
    module, padded = fusion(), pad(batch, 3, 1e3)
    expected = module(batch.features, batch.masks)
    torch.testing.assert_close(module(padded.features, padded.masks), expected, rtol=0, atol=1e-12)
    alone = trim(select(batch, 1))
    torch.testing.assert_close(module(alone.features, alone.masks), expected[1:2], rtol=0, atol=1e-12)


def test_each_cls_depends_on_both_modalities(batch):
    module = fusion(replace(SMALL, layers=1))
    expected = module(batch.features, batch.masks).unflatten(-1, (2, DIM))
    for modality in BOTH:
        changed = module({**batch.features, modality: batch.features[modality] + 1}, batch.masks).unflatten(-1, (2, DIM))
        assert ((changed - expected).abs().amax(-1) > 1e-4).all()


def test_a_modality_without_a_single_step_leaves_a_finite_result(batch):
    module = fusion()
    masks = {**batch.masks, "audio": torch.zeros_like(batch.masks["audio"])}
    assert module(batch.features, masks).isfinite().all()


def test_directions_have_weights_of_their_own_unless_they_are_shared(batch):
    attention = 4 * (DIM * DIM + DIM)
    apart, shared = fusion(), fusion(replace(SMALL, share_directions=True))
    count = {name: sum(p.numel() for p in module.parameters()) for name, module in (("apart", apart), ("shared", shared))}
    assert count["apart"] - count["shared"] == SMALL.layers * attention
    first = apart.layers[0]
    assert first.cross["text"] is not first.cross["audio"]
    assert shared.layers[0].cross["text"] is shared.layers[0].cross["audio"]
    assert shared.layers[0].cross["text"] is not shared.layers[1].cross["text"]
    tokens, masks = with_cls(shared, batch)
    found = shared.layers[0](tokens, masks, only_cls=False)
    torch.testing.assert_close(found["audio"], layer_of_torch(shared.layers[0], tokens, masks)["audio"], rtol=0, atol=1e-10)


def test_one_modality_has_self_attention_alone(batch):
    module = fusion(modalities=("text",))
    assert not any("cross" in name for name, _ in module.named_parameters())
    found = module({"text": batch.features["text"]}, batch.masks)
    layers = nn.Sequential(
        *(nn.TransformerEncoderLayer(DIM, 3, 16, 0.0, layer_norm_eps=1e-12, batch_first=True, dtype=torch.float64) for _ in range(2))
    )
    tokens, masks = with_cls(module, batch._replace(features={"text": batch.features["text"]}))
    x = tokens["text"]
    for theirs, ours in zip(layers, module.layers, strict=True):
        theirs.self_attn = torch_attention(ours.attend["text"])
        theirs.norm1, theirs.norm2 = ours.after_attend["text"].norm, ours.after_feed_forward["text"].norm
        theirs.linear1, _, theirs.linear2 = ours.feed_forward["text"]
        x = theirs(x, src_key_padding_mask=~masks["text"])
    torch.testing.assert_close(found, x[:, 0], rtol=0, atol=1e-10)


def test_of_three_modalities_each_reads_the_others_one_after_the_other():
    lengths = {"text": (5, 3), "audio": (4, 6), "vision": (2, 2)}
    batch = random_batch(lengths, DIMS, dtype=torch.float64)
    module = fusion(replace(SMALL, layers=1), tuple(lengths))
    tokens, masks = with_cls(module, batch)
    assert module(batch.features, batch.masks).shape == (2, 3 * DIM)
    layer = module.layers[0]
    source, mask = torch.cat([tokens["text"], tokens["vision"]], 1), torch.cat([masks["text"], masks["vision"]], 1)
    read, _ = torch_attention(layer.cross["audio"]).eval()(tokens["audio"], source, source, ~mask)
    expected = layer.after_cross["audio"].norm(tokens["audio"] + read)
    torch.testing.assert_close(layer._cross("audio", tokens, masks), expected, rtol=0, atol=1e-10)


def test_every_parameter_gets_a_gradient(batch):
    module = fusion().train()
    fused = module(batch.features, batch.masks)
    (fused * torch.randn_like(fused)).sum().backward()
    idle = {name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-12}
    assert {name for name in idle if not name.endswith("key.bias")} == set()


def test_the_defaults_are_those_of_mmml():
    options = FusionOptions()
    assert (options.layers, options.heads, options.ffn, options.dropout, options.attention_dropout) == (5, 12, 3072, 0.3, 0.3)
    layer = CrossModalLayer(options, 768, BOTH)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 18_903_552
