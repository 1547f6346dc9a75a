"""The fast paths on a CPU compute what torch computes, in float32 and in bfloat16."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers

from pipeline.encoding import cpu
from pipeline.settings import CHECKOUT, SAMPLE


@pytest.fixture
def model() -> torch.nn.Module:
    """The bundled audio encoder as transformers loads it."""
    return transformers.AutoModel.from_pretrained(SAMPLE / "tiny-data2vec").eval().requires_grad_(False)


@pytest.fixture(params=[False, True], ids=["oneDNN", "MKL"])
def is_mkl(request, monkeypatch) -> bool:
    """Whether float32 products stay with torch's own library, as they do on an Intel processor."""
    monkeypatch.setattr(cpu, "mkl_is_fastest", lambda: request.param)
    return request.param


@pytest.mark.parametrize("inputs", [1, 255, 256, 257, 700])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_layer_equals_the_linear_layer(inputs, bias):
    torch.manual_seed(0)
    layer = torch.nn.Linear(inputs, 24, bias=bias)
    values = torch.randn(2, 5, inputs)
    with torch.no_grad():
        packed = cpu.PackedLinear(layer.weight, layer.bias)(values)
        torch.testing.assert_close(packed, layer(values), atol=1e-5, rtol=0)
        torch.testing.assert_close(packed.double(), layer.double()(values.double()), atol=1e-5, rtol=0)


@pytest.mark.parametrize("inputs", [1, 256, 700])
def test_a_packed_layer_gives_its_weights_to_modules_that_read_them(inputs):
    layer = torch.nn.Linear(inputs, 24)
    assert torch.equal(cpu.PackedLinear(layer.weight, layer.bias).weight, layer.weight)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (2, 2), (10, 5), (5, 5), (4, 3), (3, 1)])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.usefixtures("is_mkl")
def test_strided_convolution_as_matrix_products_equals_conv1d(kernel, stride, batch, bias):
    torch.manual_seed(0)
    convolution = torch.nn.Conv1d(8, 16, kernel, stride, bias=bias)
    inputs = torch.randn(batch, 47, 8)
    with torch.no_grad():
        ours = cpu._StridedConvolution(convolution)(inputs)
        torch.testing.assert_close(ours, convolution(inputs.transpose(1, 2)).transpose(1, 2), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("kernel", "groups", "channels"), [(19, 4, 16), (4, 2, 6), (1, 1, 3)])
@pytest.mark.parametrize("batch", [1, 3])
def test_grouped_convolution_as_one_batched_product_equals_conv1d(kernel, groups, channels, batch):
    torch.manual_seed(0)
    convolution = torch.nn.Conv1d(channels, channels, kernel, padding=kernel // 2, groups=groups)
    inputs = torch.randn(batch, 47, channels)
    with torch.no_grad():
        ours = cpu._GroupedConvolution(convolution)(inputs)
        torch.testing.assert_close(ours, convolution(inputs.transpose(1, 2)).transpose(1, 2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kernel", [3, 10])
def test_a_convolution_in_bfloat16_is_rounded_once(kernel):
    torch.manual_seed(0)
    convolution = torch.nn.Conv1d(8, 16, kernel, 2).bfloat16()
    inputs = torch.randn(2, 47, 8).bfloat16()
    with torch.no_grad():
        ours = cpu._StridedConvolution(convolution)(inputs)
        exact = convolution.double()(inputs.double().transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(ours.double(), exact, atol=1e-4, rtol=2**-8)  # bfloat16 has 8 bits


def test_packed_products_are_float32_not_bfloat16(monkeypatch, model):
    monkeypatch.setattr(cpu, "mkl_is_fastest", lambda: False)
    assert cpu.product_error() < 1e-6
    assert "oneDNN float32" in cpu.pack(model)
    assert isinstance(model.encoder.layers[0].attention.q_proj, cpu.PackedLinear)


def test_on_an_intel_processor_float32_products_stay_with_mkl(monkeypatch, model):
    monkeypatch.setattr(cpu, "mkl_is_fastest", lambda: True)
    assert cpu.pack(model) == "MKL float32"
    assert not any(isinstance(module, cpu.PackedLinear) for module in model.modules())


def test_a_packed_model_gives_the_features_of_the_untouched_one(model, is_mkl):
    waveform = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (1, 5_000)).astype(np.float32))
    with torch.no_grad():
        expected = model(waveform).last_hidden_state
        assert ("MKL" in cpu.pack(model)) == is_mkl
        assert isinstance(model.feature_extractor, cpu.ChannelsLastFrontEnd)
        torch.testing.assert_close(model(waveform).last_hidden_state, expected, atol=1e-5, rtol=0)


def test_a_packed_model_in_bfloat16_is_as_near_to_float32_as_the_untouched_one(model):
    waveform = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (1, 5_000)).astype(np.float32))
    with torch.no_grad():
        exact = model(waveform).last_hidden_state
        untouched = model.bfloat16()(waveform.bfloat16()).last_hidden_state.float()
        assert cpu.pack(model) == "oneDNN bfloat16, packed"
        packed = model(waveform.bfloat16()).last_hidden_state
    assert packed.dtype == torch.bfloat16
    assert (packed.float() - exact).norm() < 1.2 * (untouched - exact).norm()


def test_products_that_are_not_float32_are_never_used(monkeypatch, model):
    monkeypatch.setattr(cpu, "mkl_is_fastest", lambda: False)
    monkeypatch.setattr(cpu, "product_error", lambda: 3e-3)
    assert "not float32" in cpu.pack(model)
    assert isinstance(model.encoder.layers[0].attention.q_proj, torch.nn.Linear)


def test_without_onednn_the_model_stays_as_it_is(monkeypatch, model):
    monkeypatch.setattr(cpu, "mkl_is_fastest", lambda: False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert cpu.pack(model) == "torch default"
    assert isinstance(model.encoder.layers[0].attention.q_proj, torch.nn.Linear)


def test_the_allocator_of_glibc_keeps_freed_memory():
    code = "from pipeline.encoding import cpu; print(cpu.keep_freed_memory())"  # in a process of its own: nothing takes it back
    result = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert result.stdout == "True\n"
