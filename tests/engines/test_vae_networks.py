"""The four networks and their loss: shapes, what reaches what, and what counts."""

import itertools

import numpy as np
import pytest
import torch

from cell_curator.core.jobs import UserError
from cell_curator.engines.vae import VaeParameters
from cell_curator.engines.vae.augmentation import jittered, turned_and_flipped
from cell_curator.engines.vae.loss import VaeLoss, kl_of_units, loss, reconstruction_error
from cell_curator.engines.vae.model import VaeModel, decode, describe, encode, reconstruct
from cell_curator.engines.vae.network import Network, architecture, build
from cell_curator.engines.vae.normalising import SLOPE, normalising
from cell_curator.engines.vae.reading import counterfactual, traversal
from cell_curator.engines.vae.strided import PAIRED, doubling, first_halving, halving, last_doubling

MODELS = ("vae", "dense", "cvae", "cvae-mixed")
SMALL = VaeParameters(latent=4, width=4)


def of(params: VaeParameters, size: int = 16, channels: int = 1, conditions: int = 0) -> Network:
    torch.manual_seed(0)
    network = build(params, size, channels, conditions)
    network.modules.eval()
    return network


def model_of(name: str, size: int = 16, channels: int = 1) -> VaeModel:
    params = SMALL.model_copy(update={"model": name})
    names = ("control", "mutated", "treated") if architecture(name).CONDITIONED else ()
    return VaeModel(params, size, channels, names, of(params, size, channels, len(names)).numbers())


def pictures(count: int, size: int = 16, channels: int = 1) -> np.ndarray:
    shape = (count, size, size) if channels == 1 else (count, channels, size, size)
    return np.random.default_rng(0).random(shape, dtype=np.float32)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("size", "channels"), list(itertools.product([5, 12, 28, 30], [1, 3])))
def test_any_patch_size_and_number_of_channels(name, size, channels):
    """Sizes that do not divide by 4 are padded inside and come back as they were."""
    network = of(SMALL.model_copy(update={"model": name}), size, channels, conditions=2)
    mean, log_variance = network.posterior(torch.zeros((2, channels, size, size)))
    assert mean.shape == log_variance.shape == (2, 4)
    assert network.decode(mean).shape == (2, channels, size, size)


def test_padding_adds_an_empty_margin_and_takes_it_away_again():
    """A network for 32 px does with the padded picture what one for 30 px does with the picture."""
    inner, outer = of(SMALL, 30), of(SMALL, 32)
    outer.assign(inner.numbers())
    small = torch.from_numpy(pictures(2, 30))[:, None]
    large = torch.nn.functional.pad(small, (1, 1, 1, 1))
    torch.testing.assert_close(inner.posterior(small), outer.posterior(large))
    latent = inner.posterior(small)[0]
    torch.testing.assert_close(inner.decode(latent), outer.decode(latent)[..., 1:31, 1:31])


@pytest.mark.parametrize("channels", [1, 3])
def test_the_last_layer_is_a_transposed_convolution(channels):
    """The same answer and the same gradients as the layer of PyTorch with the same weights."""
    torch.manual_seed(0)
    ours, plain = last_doubling(6, channels), torch.nn.ConvTranspose2d(6, channels, 4, stride=2, padding=1)
    plain.load_state_dict(ours.state_dict())
    given = [torch.rand((2, 6, 5, 7)).requires_grad_() for _ in range(2)]
    given[1].data = given[0].data
    target = torch.rand((2, channels, 10, 14))
    for layer, features in zip((ours, plain), given, strict=True):
        ((layer(features) - target) ** 2).sum().backward()
    torch.testing.assert_close(ours(given[0]), plain(given[1]))
    torch.testing.assert_close(given[0].grad, given[1].grad)
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize(("channels", "edge"), [(3, 5), (16, 8), (40, 4), (600, 2)])
def test_layers_of_our_own_in_bfloat16_say_what_pytorch_says(channels, edge):
    """Answers, gradients and running figures are those of float32, up to what bfloat16 rounds away."""
    torch.manual_seed(0)
    ours = torch.nn.Sequential(*normalising(channels))
    plain = torch.nn.Sequential(torch.nn.BatchNorm2d(channels), torch.nn.LeakyReLU(SLOPE))
    with torch.no_grad():
        ours[0].weight.uniform_(-1, 2)  # a negative one turns the picture over before the bend
        ours[0].bias.normal_()
    plain.load_state_dict(ours.state_dict())
    rough = (3 + 2 * torch.randn((6, channels, edge, edge))).bfloat16().contiguous(memory_format=torch.channels_last)
    pull = torch.randn(rough.shape).bfloat16()
    mine, theirs = rough.requires_grad_(), rough.detach().float().requires_grad_()
    said, wanted = ours(mine), plain(theirs)
    said.backward(pull)
    wanted.backward(pull.float())
    assert said.dtype == torch.bfloat16
    assert said.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(said.float(), wanted, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(mine.grad.float(), theirs.grad, rtol=1e-2, atol=1e-2)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_quarters_in_bfloat16_are_laid_as_in_float32(channels):
    """The quick way to lay quarters together, forward and back, against PyTorch's."""
    torch.manual_seed(0)
    layer = last_doubling(8, channels).to(memory_format=torch.channels_last)
    rough = torch.randn((2, 8, 5, 7)).bfloat16().contiguous(memory_format=torch.channels_last)
    pull = torch.randn((2, channels, 10, 14))
    answers = []
    for quick in (True, False):
        features = (rough if quick else rough.float()).detach().requires_grad_()
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=quick):
            said = layer(features)
        said.backward(pull)
        answers.append([said.detach(), features.grad.float(), *(weight.grad.clone() for weight in layer.parameters())])
    for one, other in zip(*answers, strict=True):
        torch.testing.assert_close(one, other, rtol=3e-2, atol=3e-2 * float(other.abs().max()))


def _answers(layers, picture, pull, quick):
    """What layers say of a picture in training, its gradient and theirs, in bfloat16 or float32."""
    layers.train()
    layers.zero_grad()
    given = picture.to(torch.bfloat16 if quick else torch.float32, memory_format=torch.channels_last)
    given.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=quick):
        said = layers(given)
    said.backward(pull.to(said.dtype))
    return [said.detach().float(), given.grad.float(), *(weight.grad.clone() for weight in layers.parameters())]


@pytest.mark.parametrize(("few", "many"), [(3, 8), (16, 32), (PAIRED, 40), (PAIRED + 8, 48)])
@pytest.mark.parametrize("up", [False, True])
def test_strided_layers_of_our_own_stray_no_further_than_those_of_pytorch(few, many, up):
    """In bfloat16, from the answers and gradients of float32; between them pictures of few channels lie in pairs."""
    torch.manual_seed(0)
    nn, bend = torch.nn, torch.nn.LeakyReLU(SLOPE)
    fine, rough = torch.randn((4, few, 12, 16)), torch.randn((4, many, 6, 8))
    if up:
        ours = nn.Sequential(*normalising(many), doubling(many, few), *normalising(few))
        strided = nn.ConvTranspose2d(many, few, 4, 2, 1, bias=False)
        plain = nn.Sequential(nn.BatchNorm2d(many), bend, strided, nn.BatchNorm2d(few), bend)
    else:
        ours = nn.Sequential(*normalising(few, into_pairs=few <= PAIRED), halving(few, many), *normalising(many))
        strided = nn.Conv2d(few, many, 4, 2, 1, bias=False)
        plain = nn.Sequential(nn.BatchNorm2d(few), bend, strided, nn.BatchNorm2d(many), bend)
    plain.load_state_dict(ours.state_dict())
    seen = []
    ours[2].register_forward_hook(lambda _, given, said: seen.append((said if up else given[0]).shape))
    shown = (rough, fine) if up else (fine, rough)
    for layers in (ours, plain):
        layers.to(memory_format=torch.channels_last)
    mine, theirs = _answers(ours, *shown, quick=True), _answers(plain, *shown, quick=True)
    for one, other, exact in zip(mine, theirs, _answers(plain, *shown, quick=False), strict=True):
        assert float((one - exact).norm()) < 1.6 * float((other - exact).norm())
    assert seen == [(4, 2 * few, 12, 9) if few <= PAIRED else (4, few, 12, 16)]
    for one, exact in zip(_answers(ours, *shown, quick=False), _answers(plain, *shown, quick=False), strict=True):
        torch.testing.assert_close(one, exact)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_layer_is_a_convolution(channels):
    """In quarters under bfloat16 and as it is otherwise."""
    torch.manual_seed(0)
    layer = first_halving(channels, 16).to(memory_format=torch.channels_last)
    picture, pull = torch.rand((5, channels, 12, 16)), torch.randn((5, 16, 6, 8))
    answers = []
    for quick in (True, False):
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=quick):
            said = layer(picture)
        said.backward(pull.to(said.dtype))
        answers.append((said.detach().float(), layer.weight.grad.clone()))
    for one, other in zip(*answers, strict=True):
        assert float((one - other).norm() / other.norm()) < 0.01
    wanted = torch.nn.functional.conv2d(picture, layer.weight, stride=2, padding=1)
    torch.testing.assert_close(answers[1][0], wanted.detach())


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (4, 1, 6, 6)])
def test_cross_entropy_of_our_own_is_that_of_pytorch(shape):
    """Forward and back, with one weight for all pixels and with one for each."""
    torch.manual_seed(0)
    images, weights = torch.rand((4, 2, 6, 6)), torch.rand(shape)
    none = torch.zeros(4)
    results = []
    for ours in (True, False):
        logits = (5 * torch.randn((4, 2, 6, 6), generator=torch.Generator().manual_seed(1))).requires_grad_()
        if ours:
            said = reconstruction_error(None, images, logits, weights, "bce", none)
        else:
            cross = torch.nn.functional.binary_cross_entropy_with_logits
            said = cross(logits, images, weight=weights, reduction="none").sum(dim=(1, 2, 3))
        (said * torch.arange(1, 5)).sum().backward()
        results.append((said.detach(), logits.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", ["bce", "mse", "gaussian"])
def test_both_terms_are_summed_per_cell_and_averaged_over_the_batch(kind):
    """A batch of the same cell five times has the loss of that cell once: β means β."""
    params = SMALL.model_copy(update={"loss": kind, "free_bits": 0.1})
    network = of(params)
    one = torch.from_numpy(pictures(1))[:, None]
    noise = torch.zeros((1, 4))

    def terms(count: int, beta: float) -> VaeLoss:
        many = one.repeat(count, 1, 1, 1)
        return loss(network, many, torch.ones_like(many), params, beta=beta, noise=noise.repeat(count, 1))

    for term in ("total", "reconstruction", "kl"):
        assert torch.allclose(getattr(terms(1, 2.0), term), getattr(terms(5, 2.0), term), rtol=1e-4)
    charged = terms(1, 1.0).total - terms(1, 0.0).total
    assert torch.allclose(terms(1, 3.0).total - terms(1, 0.0).total, 3 * charged, rtol=1e-3)
    mean, log_variance = network.posterior(one)
    target = torch.distributions.Normal(torch.zeros(4), torch.ones(4))
    exact = torch.distributions.kl_divergence(torch.distributions.Normal(mean[0], (log_variance[0] / 2).exp()), target)
    assert torch.allclose(terms(1, 2.0).kl, exact.sum(), rtol=1e-4)
    assert torch.allclose(charged, exact.clamp(min=0.1).sum(), rtol=1e-2)


def test_free_bits_are_not_charged():
    """Below its allowance a unit costs the same whatever it holds, so nothing pushes it to die."""
    params = SMALL.model_copy(update={"free_bits": 5.0})
    network = of(params)
    images = torch.from_numpy(pictures(3))[:, None]
    terms = loss(network, images, torch.ones_like(images), params, beta=1.0, noise=torch.zeros((3, 4)))
    charge = terms.total - terms.reconstruction
    assert charge.item() == pytest.approx(20.0, rel=1e-4)
    assert terms.kl.item() < 20.0


@pytest.mark.parametrize("kind", ["bce", "mse", "gaussian"])
def test_a_perfect_picture_has_no_error(kind):
    picture = torch.rand((3, 1, 8, 8)).clamp(0.01, 0.99)
    network = of(SMALL.model_copy(update={"loss": kind}), 8)
    error = reconstruction_error(network, picture, torch.logit(picture), torch.ones_like(picture), kind)
    assert torch.allclose(error, torch.zeros(3), atol=1e-3)


def test_the_gaussian_loss_is_that_of_a_normal_distribution():
    params = SMALL.model_copy(update={"loss": "gaussian"})
    network = of(params)
    images, weights = torch.from_numpy(pictures(2))[:, None], torch.ones((1, 1, 1, 1))
    terms = loss(network, images, weights, params, beta=0.0, noise=torch.zeros((2, 4)))
    painted = network.decode(network.posterior(images)[0]).sigmoid()
    normal = torch.distributions.Normal(painted, network.modules.log_noise.exp())
    assert torch.allclose(terms.total, -normal.log_prob(images).sum() / 2, rtol=1e-4)


@pytest.mark.parametrize("kind", ["bce", "mse", "gaussian"])
@pytest.mark.parametrize("name", MODELS)
def test_nothing_outside_the_cell_moves_the_network(name, kind):
    """With background 0 the painted background gets no gradient, and its pixels change no error."""
    params = SMALL.model_copy(update={"model": name, "loss": kind})
    network = of(params, channels=2, conditions=2)
    images = torch.from_numpy(pictures(3, channels=2))
    inside = torch.zeros((3, 1, 16, 16))
    inside[..., 4:12, 5:11] = 1
    logits = network.decode(network.posterior(images)[0]).detach().requires_grad_()
    reconstruction_error(network, images, logits, inside, kind).sum().backward()
    gradient = logits.grad
    assert gradient is not None
    everywhere = inside.expand_as(gradient).bool()
    assert (gradient[~everywhere] == 0).all()
    assert (gradient[everywhere] != 0).all()


@pytest.mark.parametrize("name", ["cvae", "cvae-mixed"])
def test_a_condition_reaches_the_picture_and_never_the_latent(name):
    model, images = model_of(name), pictures(6)
    masks = np.ones(images.shape, bool)
    plain, _ = describe(model, images, masks)
    for condition in range(3):
        latent, _ = describe(model, images, masks, np.full(6, condition))
        np.testing.assert_array_equal(latent, plain)
        np.testing.assert_array_equal(encode(model, images), plain)
    painted = [decode(model, plain, condition) for condition in (0, 1, None)]
    for first, second in itertools.combinations(painted, 2):
        assert np.abs(first - second).max() > 1e-4
    np.testing.assert_array_equal(decode(model, plain, np.full(6, -1)), decode(model, plain, None))


def test_the_condition_gets_its_part_of_the_refined_latent():
    """W₁ z has d − d/α numbers, W₂ E has d/α, and together they are as many as z."""
    params = VaeParameters(model="cvae-mixed", latent=32, alpha=8, width=4)
    modules = of(params, conditions=2).modules
    assert modules["mix_latent"].weight.shape == (28, 32)
    assert modules["mix_condition"].weight.shape[0] == 4


def test_the_refined_variance_is_a_softplus():
    params = SMALL.model_copy(update={"model": "cvae-mixed"})
    network = of(params, conditions=2)
    images = torch.from_numpy(pictures(3))[:, None]
    raw = network.modules["log_variance"](network.modules["encoder"](images))
    expected = torch.nn.functional.softplus(raw)
    torch.testing.assert_close(network.posterior(images)[1].exp(), expected, rtol=1e-2, atol=2e-4)


@pytest.mark.parametrize("name", ["vae", "dense"])
def test_models_without_conditions_have_none(name):
    model = model_of(name)
    with pytest.raises(UserError, match="knows no conditions"):
        counterfactual(model, pictures(2), np.ones((2, 16, 16), bool), 1)
    np.testing.assert_array_equal(decode(model, np.zeros((1, 4)), 1), decode(model, np.zeros((1, 4))))


@pytest.mark.parametrize("channels", [1, 2])
def test_counterfactual_paints_the_same_cells_under_another_condition(channels):
    model, images = model_of("cvae", channels=channels), pictures(3, channels=channels)
    masks = np.ones((3, 16, 16), bool)
    made = counterfactual(model, images, masks, 1)
    assert made.shape == images.shape
    np.testing.assert_array_equal(made, reconstruct(model, images, np.full(3, 1)))
    with pytest.raises(UserError, match="condition number 7 is unknown"):
        counterfactual(model, images, masks, 7)


@pytest.mark.parametrize("channels", [1, 2])
def test_traversal_goes_through_the_cell_itself(channels):
    model = model_of("vae", channels=channels)
    latent = np.array([0.5, -0.2, 0.0, 1.0], np.float32)
    made = traversal(model, latent, steps=5, spread=1.5)
    assert made.shape == ((4, 5, 16, 16) if channels == 1 else (4, 5, 2, 16, 16))
    for row in made:
        np.testing.assert_allclose(row[2], decode(model, latent[None])[0], atol=1e-6)
    moved = latent + np.array([0, 0, 1.5, 0], np.float32)
    np.testing.assert_allclose(made[2, 4], decode(model, moved[None])[0], atol=1e-6)


@pytest.mark.parametrize(("size", "channels"), [(32, 1), (16, 3)])
def test_patches_of_another_kind_are_refused_in_one_line(size, channels):
    with pytest.raises(UserError, match=r"learned on 16 px and 1 channel;") as refusal:
        encode(model_of("vae"), pictures(2, size, channels))
    assert "\n" not in str(refusal.value)


def test_no_cells_are_described_as_none():
    latent, error = describe(model_of("vae"), pictures(0), np.zeros((0, 16, 16), bool))
    assert latent.shape == (0, 4)
    assert error.shape == (0,)


def lopsided(count: int) -> torch.Tensor:
    """Pictures of which no two views are alike."""
    one = np.zeros((16, 16), np.float32)
    one[3:6, 4:13], one[6:12, 4:6] = 1, 0.5
    return torch.from_numpy(np.broadcast_to(one, (count, 1, 16, 16)).copy())


def views(**switches: bool) -> set[bytes]:
    """All views of a lopsided picture that these switches give."""
    images = lopsided(200)
    params = VaeParameters(**{"half_turn": False, "flip": False, **switches})
    made, inside = turned_and_flipped(images, (images > 0).float(), params, torch.Generator().manual_seed(0))
    assert torch.equal(inside > 0, made > 0)  # pixels and what they count stay together
    return {one.numpy().tobytes() for one in made}


def test_each_switch_gives_its_views_and_no_others():
    image = lopsided(1)[0]
    original, turned = image.numpy().tobytes(), image.flip(1, 2).contiguous().numpy().tobytes()
    mirrors = {image.flip(axis).contiguous().numpy().tobytes() for axis in (1, 2)}
    assert views() == {original}
    assert views(half_turn=True) == {original, turned}
    assert views(flip=True) == {original, *mirrors}
    assert views(flip=True, half_turn=True) == {original, turned, *mirrors}
    assert views(flip=True, half_turn=True, any_turn=True, augment=False) == {original}


def test_turning_by_any_angle_keeps_the_cell_and_turns_its_mask_with_it():
    rows, columns = np.mgrid[:32, :32] - 15.5
    cell = ((rows / 11) ** 2 + (columns / 5) ** 2 < 1).astype(np.float32)
    images = torch.from_numpy(np.broadcast_to(cell, (50, 1, 32, 32)).copy())
    params = VaeParameters(any_turn=True, half_turn=False, flip=False)
    made, inside = turned_and_flipped(images, images.clone(), params, torch.Generator().manual_seed(0))
    assert torch.equal(made, inside)
    np.testing.assert_allclose(made.sum((1, 2, 3)), cell.sum(), rtol=0.02)
    lying = (made * torch.from_numpy(columns**2)).sum((1, 2, 3)) / made.sum((1, 2, 3))
    assert lying.min() < 8 < 25 < lying.max()  # px²: upright 6, lying 30


def test_small_changes_are_small_random_and_repeatable():
    images = torch.from_numpy(np.kron(pictures(1, 8), np.ones((1, 4, 4), np.float32)))[:, None].repeat(30, 1, 1, 1)
    made = [jittered(images, amount, torch.Generator().manual_seed(3)) for amount in (0.3, 0.3, 1.0)]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0][0], made[0][1])
    away = [(one - images).abs().mean().item() for one in made]
    assert 0 < away[0] < away[2]
    assert 0 <= made[2].min() <= made[2].max() <= 1


def test_kl_of_units_is_zero_for_the_prior():
    zero = torch.zeros((2, 3))
    assert torch.equal(kl_of_units(zero, zero), zero)
