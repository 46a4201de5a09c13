"""Each operation against a literal loop in float64, and what holds for all of them."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import conv2d

from rscontrast.augment.atmosphere import Haze, Shadow, Sun, ThinCloud, patches
from rscontrast.augment.blur import Blur, Coarsen, gaussian_blur
from rscontrast.augment.cutout import RegionCutout
from rscontrast.augment.draws import Draws
from rscontrast.augment.jitter import Grayscale, Grey, Jitter, Solarize
from rscontrast.augment.noise import Noise, Speckle
from rscontrast.augment.operations import run
from rscontrast.augment.spectral import BandDropout, Gain
from rscontrast.errors import InputError

RED, NIR, SWIR = 0.66, 0.84, 1.6
WAVES = (RED, NIR, SWIR)

OPERATIONS = [
    Gain(band_offset=0.01), BandDropout(), Jitter(), Grayscale(), Solarize(), Haze(), Sun(),
    ThinCloud(), Shadow(), Noise(), Speckle(), Blur(), Blur(kernel=None), Coarsen(),
    RegionCutout(cells=7), RegionCutout(cells=7, fill="swap"),
]  # fmt: skip
EACH = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda op: type(op).__name__)


def images(count=4, bands=3, height=6, width=8, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, bands, height, width, generator=generator, dtype=dtype) * 0.6


def drawn(operation, given, seed=1):
    count, bands, *shape = given.shape
    generator = torch.Generator().manual_seed(seed)
    operation = replace(operation, p=1.0)
    return operation.draw(count, bands, tuple(shape), device="cpu", generator=generator)


def pixels(given):
    return [(n, c, i, j) for n, c, i, j in torch.ones(given.shape).nonzero().tolist()]


def agrees(operation, oracle, given=None, **tolerance):
    """Each pixel is oracle(x, params, n, c, i, j); float32 draws leave seven digits."""
    given = images() if given is None else given
    params = drawn(operation, given)
    expected = torch.empty_like(given)
    for n, c, i, j in pixels(given):
        expected[n, c, i, j] = oracle(given, params, n, c, i, j)
    found = operation.apply(given, params)
    torch.testing.assert_close(found, expected, **({"atol": 2e-6, "rtol": 0} | tolerance))
    assert not torch.allclose(found, given)


def test_gain_is_a_gain_and_an_offset_of_each_band():
    def oracle(x, params, n, c, i, j):
        return x[n, c, i, j] * params["gain"][n, c] + params["offset"][n, c]

    agrees(Gain(band_offset=0.05), oracle)


def test_a_lost_band_is_its_mean():
    def oracle(x, params, n, c, i, j):
        return x[n, c, i, j] if params["kept"][n, c] else x[n, c].mean()

    agrees(BandDropout(share=0.6), oracle)


def test_one_band_always_stays():
    params = drawn(BandDropout(share=1.0), images(count=500, bands=4))
    assert (params["kept"].sum(dim=1) == 1).all()
    assert drawn(BandDropout(share=0.0), images())["kept"].all()


@pytest.mark.parametrize("grey", [Grey(), Grey((0.3, 0.6, 0.1)), Grey(None, (1, 2, 3), (4, 5, 6))])
def test_jitter_does_its_four_changes_in_the_order_of_each_image(grey):
    given = images(count=12)
    jitter = Jitter(0.8, 0.8, 0.8, 0.2, grey=grey)
    params = drawn(jitter, given)
    assert len({tuple(order) for order in params["order"].tolist()}) > 6
    for n in range(len(given)):
        x, (brightness, contrast, saturation) = given[n], params["factors"][n].double()
        for change in params["order"][n].tolist():
            if change == 0:
                x = brightness * x
            elif change == 1:
                x = torch.stack([contrast * band + (1 - contrast) * band.mean() for band in x])
            elif change == 2:
                x = saturation * x + (1 - saturation) * literal_grey(x, grey)
            else:
                x = params["gains"][n].double()[:, None, None] * x
        found = jitter.apply(given, params)[n]
        torch.testing.assert_close(found, x, atol=1e-5, rtol=0)


def literal_grey(x, grey):
    weights, mean, std = grey.weights or (1, 1, 1), grey.mean or (0, 0, 0), grey.std or (1, 1, 1)
    total = sum(weights[k] / sum(weights) * (x[k] - mean[k]) / std[k] for k in range(3))
    return torch.stack([mean[c] + std[c] * total for c in range(3)])


def test_saturation_and_brightness_are_torchvision_s_of_red_green_and_blue():
    from torchvision.transforms.v2.functional import adjust_brightness, adjust_saturation

    given = images(count=1)
    luma = Grey((0.2989, 0.587, 0.114))
    for factors, expected in (
        ((0.7, 1, 1), adjust_brightness(given, 0.7)),
        ((1, 1, 0.4), adjust_saturation(given, 0.4)),
        ((1, 1, 0), adjust_saturation(given, 0.0)),
    ):
        params = drawn(Jitter(), given) | {"gains": torch.ones(1, 3)}
        found = Jitter(grey=luma).apply(given, params | {"factors": torch.tensor([factors])})
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)  # their luma sums to 0.9999


@pytest.mark.parametrize("grey", [Grey(), Grey((0.3, 0.6, 0.1)), Grey(None, (1, 2, 3), (4, 5, 6))])
def test_grayscale_is_the_weighted_sum_in_every_band(grey):
    def oracle(x, params, n, c, i, j):
        return literal_grey(x[n], grey)[c, i, j]

    agrees(Grayscale(grey=grey), oracle)


def test_solarize_inverts_what_is_bright():
    def oracle(x, params, n, c, i, j):
        top = x[n, c].max()
        return top - x[n, c, i, j] if x[n, c, i, j] >= 0.5 * top else x[n, c, i, j]

    agrees(Solarize(0.5), oracle)


def test_haze_is_airlight_through_each_band_s_own_depth():
    def oracle(x, params, n, c, i, j):
        depth = params["depth"][n].double() * (WAVES[c] / 0.55) ** -1.3
        passed = torch.exp(-depth)
        return x[n, c, i, j] * passed + params["airlight"][n] * (1 - passed)

    agrees(Haze(wavelengths=WAVES), oracle)


def test_haze_is_thickest_in_the_blue():
    params = {"depth": torch.tensor([1.0]), "airlight": torch.tensor([0.3])}
    found = Haze(wavelengths=(0.45, 0.55, 0.84)).apply(torch.zeros(1, 3, 2, 2), params)[0, :, 0, 0]
    assert found[0] > found[1] > found[2] > 0


def test_sun_dims_by_the_cosine_and_the_way_through_air():
    def oracle(x, params, n, c, i, j):
        depth = 0.1 * (WAVES[c] / 0.55) ** -4

        def light(degrees):
            height = math.cos(math.radians(degrees))
            return height * math.exp(-depth / height)

        return x[n, c, i, j] * light(params["zenith"][n]) / light(40)

    agrees(Sun(wavelengths=WAVES), oracle)


def test_thin_cloud_blends_with_its_brightness():
    def oracle(x, params, n, c, i, j):
        field = patches(params["field"], params["cover"], x.shape[-2:]).double()
        o = params["opacity"][n] * max(field[n, 0, i, j], 0)
        return x[n, c, i, j] * (1 - o) + params["brightness"][n] * o

    agrees(ThinCloud(), oracle)


def test_shadow_keeps_the_light_of_the_sky():
    def oracle(x, params, n, c, i, j):
        field = patches(params["field"], params["cover"], x.shape[-2:]).double()
        diffuse = params["diffuse"][n].double() ** (WAVES[c] / 0.55)
        shade = min(max(8 * field[n, 0, i, j] + 0.5, 0.0), 1.0)
        return x[n, c, i, j] * (1 - shade * (1 - diffuse))

    agrees(Shadow(wavelengths=WAVES), oracle)


@pytest.mark.parametrize("cover", [0.0, 0.05, 0.1, 0.2, 0.5, 0.8, 0.95, 1.0])
def test_patches_cover_the_share_they_are_told_to(cover):
    torch.manual_seed(0)
    field = patches(torch.rand(200, 1, 6, 6), torch.full((200,), cover), (96, 80))
    assert field.max() <= 1
    share = (field > 0).float().mean(dim=(1, 2, 3))
    assert share.mean().item() == pytest.approx(cover, rel=0.03)
    assert (share - cover).abs().max() < 0.01  # each of them
    steps = field.clamp(min=0).diff(dim=-1).abs().amax()
    assert steps < 0.7  # smooth: six cells over 80 pixels


@pytest.mark.parametrize("cover", [0.0, 0.05, 0.2, 0.4, 0.8])
def test_shadow_takes_the_light_of_the_share_it_is_told_to(cover):
    torch.manual_seed(0)
    shadow, light = (
        Shadow(diffuse=(0.0, 0.0), cover=(cover, cover), p=1.0),
        torch.ones(200, 1, 96, 80),
    )
    found = shadow.apply(light, shadow.draw(200, 1, (96, 80), device="cpu"))
    assert (1 - found).mean().item() == pytest.approx(cover, rel=0.05)


def test_noise_is_as_strong_as_the_ratio_says():
    def oracle(x, params, n, c, i, j):
        spread = x[n, c].mean() * params["relative"][n, c]
        return x[n, c, i, j] + spread * params["noise"][n, c, i, j]

    agrees(Noise(), oracle)
    flat = torch.full((40, 2, 64, 64), 0.4)
    found = Noise((30.0, 30.0)).apply(flat, drawn(Noise((30.0, 30.0)), flat))
    assert (found.mean() / found.std()).item() == pytest.approx(30, rel=0.02)


@pytest.mark.parametrize("looks", [1, 4, 16])
def test_speckle_has_the_mean_and_variance_of_its_looks(looks):
    def oracle(x, params, n, c, i, j):
        return x[n, c, i, j] * params["speckle"][n, c, i, j]

    operation = Speckle((looks, looks))
    agrees(operation, oracle)
    speckle = drawn(operation, images(20, 2, 64, 64))["speckle"]
    assert speckle.min() > 0
    assert speckle.mean().item() == pytest.approx(1, abs=0.01)
    assert speckle.var().item() == pytest.approx(1 / looks, rel=0.03)
    third = ((speckle - 1) ** 3).mean().item()
    assert third == pytest.approx(2 / looks**2, rel=0.2)  # Gamma's third moment


def test_looks_are_drawn_for_each_image_and_all_of_them():
    speckle = drawn(Speckle((2, 5)), images(60, 1, 64, 64))["speckle"]
    looks = (1 / speckle.flatten(1).var(dim=1)).round()
    assert set(looks.tolist()) == {2.0, 3.0, 4.0, 5.0}


@pytest.mark.parametrize(("side", "radius"), [((9, 11), 3), ((7, 7), 2), ((4, 6), 9)])
def test_blur_is_a_truncated_gaussian_of_the_pixels_within(side, radius):
    given = images(3, 2, *side)
    sigma = torch.tensor([0.5, 1.5, 4.0])
    found = gaussian_blur(given, sigma, radius)
    for n, c, i, j in pixels(given):
        total = weights = 0.0
        for a in range(max(0, i - radius), min(side[0], i + radius + 1)):
            for b in range(max(0, j - radius), min(side[1], j + radius + 1)):
                weight = math.exp(-((a - i) ** 2 + (b - j) ** 2) / (2 * sigma[n] ** 2))
                total, weights = total + weight * given[n, c, a, b], weights + weight
        assert found[n, c, i, j].item() == pytest.approx((total / weights).item(), abs=1e-6)


@pytest.mark.parametrize("radius", [1, 11, 80])
@pytest.mark.parametrize("side", [(130, 60), (57, 112), (56, 3)])
def test_blur_of_many_tiles_is_a_convolution(side, radius):
    given, sigma = images(2, 3, *side), torch.tensor([0.7, 20.0], dtype=torch.float64)
    found = gaussian_blur(given, sigma, radius)
    steps = torch.arange(-radius, radius + 1)
    for n in range(2):
        tap = torch.exp(-(steps**2) / (2 * sigma[n] ** 2))
        ones = torch.ones(1, 1, *side, dtype=torch.float64)
        total, weight = (along_both(tap, plane) for plane in (given[n].unsqueeze(1), ones))
        torch.testing.assert_close(found[n], (total / weight).squeeze(1))


def along_both(tap, planes):
    rows = conv2d(planes, tap.view(1, 1, 1, -1), padding=(0, len(tap) // 2))
    return conv2d(rows, tap.view(1, 1, -1, 1), padding=(len(tap) // 2, 0))


@pytest.mark.parametrize("side", [(6, 8), (130, 60)])
def test_no_blur_leaves_every_bit(side):
    given = images(3, 3, *side, dtype=torch.float32)
    assert torch.equal(gaussian_blur(given, torch.zeros(3), 5), given)


def test_blur_s_kernel_is_a_tenth_of_the_height_or_three_deviations():
    assert Blur().radius(224) == 11
    assert Blur().radius(32) == 1
    assert Blur(kernel=None).radius(32) == 6


def test_blurring_all_equals_blurring_those_that_need_it():
    given = images(8, dtype=torch.float32)
    params = Blur(p=0.5).draw(8, 3, (6, 8), device="cpu")
    assert 0 < (params["sigma"] > 0).sum() < 8
    whole = gaussian_blur(given, params["sigma"], Blur().radius(6))
    torch.testing.assert_close(Blur().apply(given, params), whole)


def test_coarsen_brings_a_sharp_sensor_s_edge_to_the_coarse_one_s_modulation():
    """A wave at the coarse Nyquist frequency is passed as by two sensors, one after the other."""
    operation, ratio = Coarsen((3.0, 3.0), nyquist=0.2), 3.0
    x = torch.arange(120, dtype=torch.float64)
    wave = torch.cos(math.pi / ratio * x).expand(1, 1, 120, 120)
    found = operation.apply(wave, drawn(operation, wave))[0, 0, 60, 40:80]
    passed = found.abs().max().item()
    fine = 0.2 ** (1 / ratio**2)  # of the sensor that took it, at this frequency
    assert passed * fine == pytest.approx(0.2, rel=0.02)
    still = Coarsen((1.0, 1.0))
    assert torch.equal(still.apply(wave, drawn(still, wave)), wave)


def test_region_cutout_fills_with_the_mean_or_the_other_that_was_drawn():
    for fill in ("mean", "swap"):

        def oracle(x, params, n, c, i, j, fill=fill):
            if not params["cut"][n, i * 7 // 6, j * 7 // 8]:
                return x[n, c, i, j]
            if fill == "mean":
                return x[n, c].mean()
            return x[(n + params["donor"][n]) % len(x), c, i, j]

        agrees(RegionCutout(cells=7, fill=fill), oracle)


RANGES = [
    (Gain(0.3, 0.0, 0.02), "gain", 0.7, 1.3),
    (Gain(0.0, 0.1, 0.0), "gain", 0.9, 1.1),
    (Gain(0.3, 0.1, 0.02), "offset", -0.02, 0.02),
    (Gain(0.3, 0.1, 0.0, 0.01), "offset", -0.01, 0.01),
    (Jitter(0.4, 0.4, 0.4, 0.1), "factors", 0.6, 1.4),
    (Jitter(1.5, 1.5, 1.5, 0.1), "factors", 0.0, 2.5),
    (Jitter(0.4, 0.4, 0.4, 0.1), "gains", 0.9, 1.1),
    (Blur((0.1, 2.0)), "sigma", 0.1, 2.0),
    (Haze((0.1, 0.5)), "depth", 0.1, 0.5),
    (Haze(airlight=(0.2, 0.3)), "airlight", 0.2, 0.3),
    (Sun((20.0, 60.0)), "zenith", 20, 60),
    (ThinCloud(opacity=(0.1, 0.6)), "opacity", 0.1, 0.6),
    (ThinCloud(cover=(0.2, 0.8)), "cover", 0.2, 0.8),
    (ThinCloud(brightness=(0.4, 0.8)), "brightness", 0.4, 0.8),
    (Shadow(diffuse=(0.2, 0.6)), "diffuse", 0.2, 0.6),
    (Shadow(cover=(0.1, 0.4)), "cover", 0.1, 0.4),
    (Noise((20.0, 200.0)), "relative", 1 / 200, 1 / 20),
]


@pytest.mark.parametrize(("operation", "name", "low", "high"), RANGES)
def test_draws_keep_their_range_and_fill_it(operation, name, low, high):
    values = drawn(operation, torch.zeros(3000, 3, 1, 1))[name]
    slack = (high - low) / 50
    assert low - 1e-6 <= values.min() < low + slack
    assert high - slack < values.max() <= high + 1e-6


@EACH
class TestEveryOperation:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("bands", [1, 2, 3, 4, 10, 13])
    def test_any_bands_and_precision_within_physical_bounds(self, operation, bands, dtype):
        torch.manual_seed(0)
        for count, height, width in ((6, 24, 20), (1, 8, 12)):
            given = images(count, bands, height, width, dtype)
            given[0, 0, 0, 0], given[0, 0, 0, 1] = -0.05, 1.4
            found, _ = run([replace(operation, p=1.0)], given)
            assert found.shape == given.shape
            assert found.dtype == dtype
            assert found.isfinite().all()
            assert found[0].min() >= given[0].min()
            assert found[0].max() <= given[0].max()
            assert found[1:].min() >= 0 if count > 1 else True
            assert found[1:].max() <= 1 if count > 1 else True

    def test_the_same_params_give_the_same_bits(self, operation):
        given = images(6, dtype=torch.float32)
        first, params = run([operation], given, generator=torch.Generator().manual_seed(3))
        again, _ = run([operation], given, params)
        seeded, _ = run([operation], given, generator=torch.Generator().manual_seed(3))
        other, _ = run([operation], given, generator=torch.Generator().manual_seed(4))
        assert torch.equal(first, again)
        assert torch.equal(first, seeded)
        assert not torch.equal(first, other)

    def test_params_have_the_images_first(self, operation):
        """So that some of a batch can be repeated alone."""
        given = images(6, dtype=torch.float32)
        whole, (params,) = run([operation], given, generator=torch.Generator().manual_seed(3))
        part = {name: value[2:4] for name, value in params.items()}
        found, _ = run([operation], given[2:4], [part])
        alone = torch.allclose(found, whole[2:4], atol=1e-6, rtol=0)
        assert alone != operation.mixes  # what fills an image is another one

    def test_the_coin_leaves_images_bit_for_bit(self, operation):
        torch.manual_seed(0)
        given = images(500, 3, 8, 8, torch.float32)
        assert torch.equal(run([replace(operation, p=0.0)], given)[0], given)
        found, _ = run([replace(operation, p=0.3)], given)
        share = (found != given).flatten(1).any(dim=1).float().mean().item()
        # Some do nothing to an image that they do meet: BandDropout may keep all bands.
        assert share < 0.37
        assert share > (0.23 if not isinstance(operation, BandDropout) else 0.08)

    def test_a_coin_for_each_view(self, operation):
        torch.manual_seed(0)
        given = images(100, 3, 8, 8, torch.float32)
        found, _ = run([replace(operation, p=(0.0, 1.0))], given)
        changed = (found != given).flatten(1).any(dim=1)
        assert not changed[::2].any()
        assert changed[1::2].float().mean() > (0.3 if isinstance(operation, BandDropout) else 0.9)

    def test_unusable_pixels_come_out_as_they_came_and_touch_no_other(self, operation):
        generator = torch.Generator().manual_seed(0)
        valid = torch.rand(6, 12, 12, generator=generator) > 0.3
        valid[5] = False
        given = images(6, 3, 12, 12, torch.float32)
        operation = replace(operation, p=1.0)
        found = []
        for nodata in (torch.nan, -9999.0):
            spoilt = torch.where(valid.unsqueeze(1), given, nodata)
            seeded = torch.Generator().manual_seed(1)
            out, _ = run([operation], spoilt, valid=valid, generator=seeded)
            kept = out.isnan() if nodata != nodata else out == nodata
            assert torch.equal(kept, ~valid.unsqueeze(1).expand_as(kept))
            found.append(torch.where(valid.unsqueeze(1), out, 0))
        assert torch.equal(*found)

    def test_it_needs_no_values_to_be_laid_out(self, operation):
        """The device "meta" stands in for a GPU that nobody waits for."""
        given = torch.zeros(4, 3, 16, 16, device="meta")
        found, params = run([operation], given, valid=given[:, 0] > 0)
        assert found.shape == given.shape
        assert {value.device.type for value in params[0].values()} == {"meta"}

    def test_the_images_that_came_are_left_alone(self, operation):
        given = images(6, dtype=torch.float32)
        before = given.clone()
        run([replace(operation, p=1.0)], given)
        assert torch.equal(given, before)


FUSED = [Gain(), Jitter(), BandDropout(), Grayscale(p=0.5), Haze(), Sun()]


def test_fused_operations_equal_one_after_the_other():
    given = images(20, 4)
    found, params = run(FUSED, given, generator=torch.Generator().manual_seed(0))
    chained = given
    for operation, drawing in zip(FUSED, params, strict=True):
        chained = operation.apply(chained, drawing)
    bounds = given.amin(dim=(1, 2, 3), keepdim=True).clamp(max=0)
    expected = chained.clamp(min=bounds).clamp(max=1)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert (chained - expected).abs().max() < 1


def test_order_counts():
    given = images(20, 4)
    operations = [Blur(p=1.0), Solarize(p=1.0)]
    found, params = run(operations, given, generator=torch.Generator().manual_seed(0))
    literal = operations[1].apply(operations[0].apply(given, params[0]), params[1])
    torch.testing.assert_close(found, literal)
    other, _ = run(operations[::-1], given, params[::-1])
    assert not torch.allclose(found, other)


def test_nothing_to_do_does_nothing():
    given = images(2)
    found, params = run([], given)
    assert torch.equal(found, given)
    assert params == []


def test_each_image_draws_its_own():
    given = images(1).expand(50, -1, -1, -1)
    found, _ = run([Gain()], given)
    assert len(found.flatten(1).unique(dim=0)) == 50


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Gain(gain=1.0), "gain"),
        (lambda: Gain(band_gain=-0.1), "band_gain"),
        (lambda: Gain(offset=math.nan), "offset"),
        (lambda: Gain(band_offset=-1.0), "band_offset"),
        (lambda: Gain(p=1.1), "p"),
        (lambda: Blur(p=()), "p"),
        (lambda: Blur(p=(0.5, math.nan)), "p"),
        (lambda: Blur(sigma=(2.0, 1.0)), "sigma"),
        (lambda: Blur(kernel=0.0), "kernel"),
        (lambda: Coarsen(ratio=(0.5, 2.0)), "ratio"),
        (lambda: Coarsen(nyquist=1.0), "nyquist"),
        (lambda: Jitter(brightness=-0.1), "brightness"),
        (lambda: Jitter(contrast=math.nan), "contrast"),
        (lambda: Jitter(hue=1.5), "hue"),
        (lambda: Grey(weights=(0.0, 0.0)), "weights"),
        (lambda: Grey(weights=(1.0, -1.0)), "weights"),
        (lambda: Grey(std=(1.0, 0.0)), "std"),
        (lambda: Solarize(threshold=1.5), "threshold"),
        (lambda: BandDropout(share=-0.5), "share"),
        (lambda: Haze(depth=(-1.0, 0.0)), "depth"),
        (lambda: Haze(airlight=(0.0, 1.5)), "airlight"),
        (lambda: Haze(wavelengths=(0.5, 0.0)), "wavelengths"),
        (lambda: Sun(zenith=(0.0, 90.0)), "zenith"),
        (lambda: Sun(reference=90.0), "reference"),
        (lambda: Sun(depth=-0.1), "depth"),
        (lambda: ThinCloud(cover=(0.0, 2.0)), "cover"),
        (lambda: Shadow(diffuse=(-0.1, 0.5)), "diffuse"),
        (lambda: Noise(snr=(0.0, 10.0)), "snr"),
        (lambda: Speckle(looks=(0, 4)), "looks"),
        (lambda: Speckle(looks=(1.5, 4)), "looks"),
        (lambda: RegionCutout(share=(0.5, 1.5)), "share"),
        (lambda: RegionCutout(cells=2), "cells"),
        (lambda: RegionCutout(fill="black"), "fill"),
        (lambda: Grayscale(grey=Grey(weights=(1.0, 1.0))).apply(images(), COLOUR), "weights"),
        (lambda: Haze(wavelengths=(0.5,)).apply(images(), drawn(Haze(), images())), "wavelengths"),
    ],
)
def test_bad_settings_are_refused_by_name(make, name):
    with pytest.raises(InputError, match=f"^{name}: got .*; allowed: "):
        make()


COLOUR = {"colour": torch.zeros(4)}


def test_draws_are_of_their_distributions():
    draws = Draws(20000, 1, (1, 1), "cpu", torch.Generator().manual_seed(0))
    assert draws.uniform(2, 6).mean().item() == pytest.approx(4, abs=0.05)
    assert draws.log_uniform(0.01, 100).log().mean().item() == pytest.approx(0, abs=0.1)
    assert draws.normal().var().item() == pytest.approx(1, abs=0.05)
    assert draws.coin(0.2).float().mean().item() == pytest.approx(0.2, abs=0.02)
