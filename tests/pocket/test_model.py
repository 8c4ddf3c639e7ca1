"""The computed encoder is the linear code it claims to be; numbers and letters reach the transformer as single tokens."""

from __future__ import annotations

import random

import torch

from ideogram_q8.model.architecture import MAX_TEXT_TOKENS
from ideogram_q8.pocket import data, tokenizer
from ideogram_q8.training import model, train


def pictures(count: int) -> torch.Tensor:
    return train.picture_batch(random.Random(3), count * 4, whole=True)


def test_encoder_convolutions_equal_the_linear_code() -> None:
    basis = model.PatchBasis.fit(pictures(40))
    vae = model.build_vae().eval()
    model.install_encoder(vae, basis)
    batch = pictures(4)
    with torch.no_grad():
        latents = vae.encode(batch).latent_dist.mode()
    assert latents.shape == (4, 16, 16, 16)
    torch.testing.assert_close(latents, basis.encode(batch), atol=0.02, rtol=0.01)


def test_principal_components_are_uncorrelated_and_the_best_code() -> None:
    batch = pictures(60)
    basis = model.PatchBasis.fit(batch)
    code = basis.encode(batch).permute(0, 2, 3, 1).reshape(-1, model.LATENT_CHANNELS).double()
    covariance = code.T @ code / len(code)
    off_diagonal = covariance - torch.diag(covariance.diagonal())
    assert off_diagonal.abs().max() < 1e-3 * covariance.diagonal().max()
    assert (covariance.diagonal().diff() < 1e-6).all()


def test_tokens_are_packed_as_the_pipeline_unpacks_them() -> None:
    latents = torch.arange(2 * 16 * 4 * 6, dtype=torch.float32).reshape(2, 16, 4, 6)
    tokens = train.to_tokens(latents)
    unpacked = tokens.view(2, 2, 3, 2, 2, 16).permute(0, 5, 1, 3, 2, 4).reshape(2, 16, 4, 6)
    assert torch.equal(unpacked, latents)


def test_tokenizer_keeps_numbers_and_capitals_whole_and_loses_nothing() -> None:
    built = tokenizer.build_tokenizer()
    assert sorted(tokenizer.number_ids(built)) == list(range(1001))
    for text in ('{"bbox":[0,125,437,1000],"text":"ZAP"}', "déjà vu — 日本 🙂", "", "  two  spaces\n\ttab"):
        assert built.decode(built(text, add_special_tokens=False)["input_ids"]) == text
    caption = tokenizer.caption_text(data.held_out_scenes(1)[0])
    ids = tokenizer.encode_caption(built, caption)
    assert built.decode(ids) == f"<|im_start|>user\n{caption}<|im_end|>\n<|im_start|>assistant\n"
    assert len(ids) < 40 < MAX_TEXT_TOKENS


def test_neighbouring_numbers_have_similar_embeddings() -> None:
    near = torch.cosine_similarity(model.number_embedding(500), model.number_embedding(504), dim=0)
    far = torch.cosine_similarity(model.number_embedding(500), model.number_embedding(700), dim=0)
    assert near > 0.9 > 0.5 > far
