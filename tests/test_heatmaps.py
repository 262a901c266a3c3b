import pytest
import torch

from pipedet.models.heatmaps import blur, draw_gaussians, find_peaks


@pytest.mark.parametrize(
    ('stride', 'sigma', 'merge'), [(4, 5.0, 'max'), (1, 10.0, 'sum'), (2, 4.0, 'max')]
)
def test_what_is_drawn_is_read_back(stride, sigma, merge):
    apart = 8 * sigma
    grid = torch.cartesian_prod(*[torch.arange(30.0, 226.0, apart)] * 2)
    points = grid + torch.rand(grid.shape) * 7 - 3.5
    size = (256 // stride, 256 // stride)
    heatmap = draw_gaussians([points], size, sigma=sigma, stride=stride, merge=merge)
    found, scores = find_peaks(
        heatmap.clamp(max=1), max_tips=len(points), stride=stride, radius=round(sigma / stride)
    )
    nearest = (points[:, None] - found[0][None]).norm(dim=-1).min(dim=1).values
    assert (scores > 0).all()
    assert nearest.max() < 0.05


@pytest.mark.parametrize(('stride', 'sigma'), [(4, 5.0), (1, 10.0), (2, 4.0)])
def test_tips_in_the_outermost_cells_are_read_back(stride, sigma):
    near = torch.tensor([0.0, 1.2, 3.4])
    along = torch.cat([near, 127 - near])
    points = torch.cat(
        [torch.stack([along, torch.full((6,), 60.3)], 1), along[:, None].repeat(1, 2)]
    )
    points = torch.cat([points, points.flip(1)])
    heatmap = draw_gaussians(
        list(points[:, None]), (128 // stride,) * 2, sigma=sigma, stride=stride, merge='max'
    )
    found, scores = find_peaks(heatmap, max_tips=1, stride=stride, radius=2)
    assert (scores > 0.8).all()
    assert (found[:, 0] - points).norm(dim=-1).max() < 0.05


def test_images_without_tips_draw_nothing_and_read_nothing():
    heatmap = draw_gaussians(
        [torch.empty(0, 2), torch.tensor([[9.0, 9.0]])], (16, 16), sigma=4.0, stride=4, merge='max'
    )
    assert heatmap[0].max() == 0 and heatmap[1].max() > 0.5
    none = draw_gaussians([torch.empty(0, 2)], (16, 16), sigma=4.0, stride=4, merge='max')
    assert none.shape == (1, 1, 16, 16) and none.max() == 0


@pytest.mark.parametrize('value', [0.0, 0.4, 1.0, float('nan'), float('inf')])
def test_flat_saturated_and_non_finite_maps_have_no_peak(value):
    _, scores = find_peaks(torch.full((1, 1, 16, 16), value), max_tips=4, stride=4, radius=1)
    assert (scores == 0).all()


def test_one_bad_cell_does_not_hide_the_others():
    heatmap = draw_gaussians(
        [torch.tensor([[40.0, 20.0]])], (16, 16), sigma=5.0, stride=4, merge='max'
    )
    heatmap[0, 0, 14, 1] = float('nan')
    points, scores = find_peaks(heatmap, max_tips=1, stride=4, radius=1)
    assert scores[0, 0] > 0.5 and torch.allclose(
        points[0, 0], torch.tensor([40.0, 20.0]), atol=0.05
    )


def test_a_bad_cell_beside_a_tip_at_the_border_leaves_it_a_place():
    tip = torch.tensor([[1.0, 20.0]])
    heatmap = draw_gaussians([tip], (16, 16), sigma=5.0, stride=4, merge='max')
    heatmap[0, 0, 5, 2] = float('nan')
    points, scores = find_peaks(heatmap, max_tips=1, stride=4, radius=1)
    assert scores[0, 0] > 0.5 and (points[0] - tip).norm() < 3


def test_order_of_tips_does_not_matter_and_merge_is_checked():
    points = torch.rand(4, 2) * 255
    options = dict(size=(64, 64), sigma=5.0, stride=4)
    for merge in ('sum', 'max'):
        a = draw_gaussians([points], merge=merge, **options)
        b = draw_gaussians([points.flip(0)], merge=merge, **options)
        assert torch.allclose(a, b, atol=1e-6)
    with pytest.raises(ValueError, match='sum'):
        draw_gaussians([points], merge='mean', **options)


def test_sum_is_equation_5():
    point = torch.tensor([[20.0, 30.0]])
    heatmap = draw_gaussians([point.repeat(2, 1)], (64, 64), sigma=10.0, stride=1, merge='sum')
    expected = 2 * torch.exp(torch.tensor(-(4.0**2 + 3.0**2) / (2 * 10.0**2)))
    assert heatmap[0, 0, 33, 24].item() == pytest.approx(expected.item(), rel=1e-5)


def test_blur_ranks_a_broad_peak_above_a_single_cell():
    heatmap = torch.zeros(1, 1, 32, 32)
    heatmap[0, 0, 8, 8] = 0.5
    heatmap[0, 0, 20:23, 20:23] = 0.4
    heatmap[0, 0, 21, 21] = 0.45
    sharp = find_peaks(heatmap, max_tips=1, stride=1, radius=2)[0]
    broad = find_peaks(blur(heatmap, 0.8), max_tips=1, stride=1, radius=2)[0]
    assert sharp[0, 0].tolist() == [8, 8] and broad[0, 0].tolist() == [21, 21]


def test_blur_keeps_a_level_to_the_border():
    level = torch.full((2, 1, 9, 7), 0.3)
    assert torch.allclose(blur(level, 1.3), level, atol=1e-6)


def test_a_tip_halfway_between_cells_is_one_tip():
    tip = torch.tensor([[16.0, 16.5]])
    heatmap = draw_gaussians([tip], (32, 32), sigma=5.0, stride=1, merge='max')
    points, scores = find_peaks(heatmap, max_tips=3, stride=1, radius=2)
    assert torch.allclose(points[0, 0], tip[0]) and scores[0, 1:].tolist() == [0, 0]


def test_centroid_reads_a_gaussian_and_one_at_the_border():
    points = torch.tensor([[40.3, 52.8], [100.6, 3.0]])
    heatmap = draw_gaussians([points], (128, 128), sigma=2.0, stride=1, merge='sum')
    found, scores = find_peaks(heatmap, max_tips=2, stride=1, radius=8, refine='centroid')
    order = found[0, :, 0].argsort()
    assert torch.allclose(found[0, order], points, atol=0.5)
    assert torch.allclose(found[0, order[0]], points[0], atol=1e-2)
    assert scores.min() > 0.9
    with pytest.raises(ValueError, match='refine'):
        find_peaks(heatmap, max_tips=2, stride=1, radius=8, refine='other')
