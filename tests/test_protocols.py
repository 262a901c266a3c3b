import numpy as np
import pytest

from pipedet.evaluation import (
    TipRecord,
    bootstrap,
    by_cnr,
    by_count,
    by_session,
    intervals,
    known_count,
    open_count,
    summarise,
)
from pipedet.evaluation.protocols import known_count_scored

TIPS = [[10.0, 20.0], [60.0, 30.0], [40.0, 90.0]]


def make_record(true=TIPS, pred=TIPS, scores=None, **fields):
    fields = {
        **dict(source='a.tif', frame=0, session='s', subset='vivo', pixel_size_um=(1.0, 1.0)),
        **dict(score_threshold=0.5, cnr=None),
        **fields,
    }
    scores = np.ones(len(pred)) if scores is None else scores
    return TipRecord(true=true, pred=pred, scores=scores, **fields)


def random_records(n, sessions=1, seed=0):
    rng = np.random.default_rng(seed)
    records = []
    for index in range(n):
        true = rng.uniform(0, 200, (rng.integers(1, 5), 2))
        pred = true + rng.normal(0, 4, true.shape)
        cnr = rng.exponential(1.2, len(true))
        session = f's{index % sessions}'
        records.append(make_record(true, pred, cnr=cnr, frame=index, session=session))
    return records


def test_perfect_prediction_scores_100():
    summary = summarise([make_record(), make_record(true=[], pred=[])])
    assert summary['images'] == 2 and summary['tips'] == 3
    for key in ('tip/acc@3um', 'tip/acc@5um', 'tip/acc@10um', 'open/count_acc', 'open/f1@5um'):
        assert summary[key] == 100
    for key in ('open/precision@10um', 'open/recall@10um'):
        assert summary[key] == 100
    for key in ('tip/error_um', 'tip/median_um', 'tip/missed', 'open/ghosts_per_image'):
        assert summary[key] == 0


def test_order_does_not_matter():
    rng = np.random.default_rng(1)
    true, pred = rng.uniform(0, 60, (4, 2)), rng.uniform(0, 60, (4, 2))
    expected = summarise([make_record(true, pred)])
    distances = known_count(make_record(true, pred))
    for _ in range(5):
        p, t = rng.permutation(4), rng.permutation(4)
        assert summarise([make_record(true[t], pred[p])]) == pytest.approx(expected)
        np.testing.assert_allclose(known_count(make_record(true[t], pred[p])), distances[t])


def test_scores_out_of_order_are_ranked():
    record = make_record([[0.0, 0]], [[50.0, 0], [1.0, 0]], [0.2, 0.9])
    assert known_count(record) == [1]


def test_each_tip_has_the_score_of_its_own_prediction():
    record = make_record([[0.0, 0], [50.0, 0], [9.0, 9]], [[51.0, 0], [1.0, 0]], [0.6, 0.9])
    away, believed = known_count_scored(record)
    assert away.tolist() == [1, 1, np.inf] and believed.tolist() == [0.9, 0.6, 0]


def test_twice_the_images_are_the_same_summary():
    records = random_records(20)
    once, twice = summarise(records), summarise(records * 2)
    assert (twice.pop('images'), twice.pop('tips')) == (
        2 * once.pop('images'),
        2 * once.pop('tips'),
    )
    assert twice == pytest.approx(once)


def test_missed_tip_is_wrong_at_every_threshold():
    record = make_record(pred=TIPS[:2])
    assert np.isinf(known_count(record)).tolist() == [False, False, True]
    summary = summarise([record])
    for threshold in (3, 5, 10):
        assert summary[f'tip/acc@{threshold}um'] == pytest.approx(200 / 3)
    assert summary['tip/missed'] == pytest.approx(100 / 3)
    assert summary['tip/error_um'] == 0  # of the tips that were found
    assert summary['open/recall@5um'] == pytest.approx(200 / 3)
    assert summary['open/precision@5um'] == 100
    assert summary['open/f1@5um'] == pytest.approx(100 * 4 / 5)
    assert summary['open/count_acc'] == 0


def test_a_distance_at_the_threshold_is_not_below_it():
    summary = summarise([make_record([[0.0, 0]], [[3.0, 4.0]])])
    assert summary['tip/acc@5um'] == 0 and summary['tip/acc@10um'] == 100
    assert summary['open/recall@5um'] == 0 and summary['open/recall@10um'] == 100


def test_extra_tip_costs_precision_only():
    record = make_record(pred=[*TIPS, [150.0, 150.0]], scores=[0.9, 0.9, 0.9, 0.6])
    summary = summarise([record, make_record()])
    assert summary['tip/acc@3um'] == 100  # known count: three predictions are asked for
    assert summary['open/precision@5um'] == pytest.approx(100 * 6 / 7)
    assert summary['open/recall@5um'] == 100
    assert summary['open/f1@5um'] == pytest.approx(100 * 12 / 13)
    assert summary['open/count_acc'] == 50
    assert summary['open/ghosts_per_image'] == 0.5


def test_ghost_on_an_empty_frame_is_charged():
    empty = make_record(true=[], pred=[[5.0, 5.0]], scores=[0.8])
    assert open_count(empty, 10) == (0, 1, 0)
    summary = summarise([empty, make_record()])
    assert summary['tip/acc@3um'] == 100 and summary['tips'] == 3
    assert summary['open/precision@5um'] == 75
    assert summary['open/recall@5um'] == 100
    assert summary['open/count_acc'] == 50
    assert summary['open/ghosts_per_image'] == 0.5


def test_failed_image_misses_all_its_tips():
    summary = summarise([make_record(), make_record(failed=True)])
    assert summary['tip/acc@10um'] == 50 and summary['tip/missed'] == 50
    assert summary['open/recall@10um'] == 50 and summary['open/precision@10um'] == 100
    assert summary['open/count_acc'] == 50
    assert summarise([make_record(true=[], pred=[], failed=True)])['open/count_acc'] == 0


def test_an_image_without_an_answer_finds_nothing_and_makes_nothing_up():
    silent = make_record(abstained=True)
    assert open_count(silent, 5) == (0, 0, 3)
    assert summarise([silent])['open/ghosts_per_image'] == 0
    assert (known_count(silent) == 0).all()  # told how many, it has to answer


def test_low_scores_beyond_the_true_count_are_ignored():
    # The second prediction is exact, but the first scores best and one tip is asked for.
    record = make_record([[0.0, 0]], [[4.0, 0], [0.0, 0]], [0.9, 0.3])
    assert known_count(record) == [4]
    assert open_count(record, 3) == (0, 1, 1)


def test_known_count_ignores_the_score_threshold():
    record = make_record(scores=[0.1, 0.1, 0.1])
    assert (known_count(record) == 0).all()
    assert open_count(record, 5) == (0, 0, 3)
    assert 'open/precision@5um' not in summarise([record])


def test_open_count_finds_the_most_pairs():
    # Least total distance pairs (0, 0) and leaves 9 + 9 apart; both tips have one within 10.
    record = make_record([[0.0, 0], [9.0, 0]], [[0.0, 0], [-9.0, 0]])
    assert open_count(record, 10) == (2, 2, 2)
    assert open_count(record, 5) == (1, 2, 2)


def test_nan_prediction_counts_as_missing():
    pred = [[np.nan, 1.0], TIPS[0], [np.inf, 0.0], TIPS[1], TIPS[2]]
    full = make_record(pred=pred, scores=[0.99, 0.9, 0.9, 0.8, np.nan])
    assert known_count(full).tolist() == [0, 0, np.inf]
    assert open_count(full, 5) == (2, 2, 3)


def test_anisotropic_pixels():
    record = make_record([[10.0, 10.0]], [[13.0, 12.0]], pixel_size_um=(1.0, 2.0))
    assert known_count(record) == [5]
    assert open_count(record, 4.9) == (0, 1, 1) and open_count(record, 5.1) == (1, 1, 1)


def test_without_a_scale_keys_are_in_pixels():
    unscaled = make_record([[10.0, 10.0]], [[13.0, 14.0]], pixel_size_um=None)
    summary = summarise([unscaled])
    assert summary['tip/error_px'] == 5 and summary['tip/median_px'] == 5
    assert summary['tip/acc@10px'] == 100
    assert not any('um' in key for key in summary)
    both = summarise([unscaled, make_record()])
    assert both['tip/error_px'] == 5 and both['tip/error_um'] == 0
    assert both['open/recall@5px'] == 0 and both['open/recall@5um'] == 100
    assert both['images'] == 2 and both['tips'] == 4 and both['open/count_acc'] == 100


def test_empty_inputs():
    assert summarise([]) == {'images': 0, 'tips': 0}
    assert by_session([]) == by_count([]) == {}
    assert all(band == {'tips': 0} for band in by_cnr([]).values())
    summary = summarise([make_record(true=[], pred=[])])
    expected = {'images': 1, 'tips': 0, 'open/count_acc': 100, 'open/ghosts_per_image': 0}
    assert summary == expected
    missed = summarise([make_record(pred=[])])
    assert missed['tip/missed'] == 100 and missed['tip/acc@3um'] == 0
    assert 'tip/error_um' not in missed and 'tip/median_um' not in missed


@pytest.mark.parametrize(
    'fields',
    [
        dict(true=[[np.nan, 0.0]]),
        dict(scores=[1.0]),
        dict(cnr=[1.0]),
        dict(pixel_size_um=(0.0, 1.0)),
    ],
)
def test_nonsense_is_named(fields):
    with pytest.raises(ValueError, match='a.tif, frame 0'):
        make_record(**fields)


def test_cnr_bands_sum_to_the_whole():
    records = random_records(30)
    bands = by_cnr(records)
    total = summarise(records)
    parts = [bands[name] for name in ('<0.3', '0.3-1', '1-2', '>=2')]
    assert sum(part['tips'] for part in parts) == total['tips']
    weighted = sum(part['tips'] * part['tip/acc@5um'] for part in parts) / total['tips']
    assert weighted == pytest.approx(total['tip/acc@5um'])
    assert bands['>=1']['tips'] == bands['1-2']['tips'] + bands['>=2']['tips']


def test_cnr_edges_and_unknowns():
    true = [[0.0, 0], [50.0, 0], [100.0, 0], [150.0, 0], [200.0, 0], [250.0, 0]]
    bands = by_cnr([make_record(true, true, cnr=[0.3, 1.0, 2.0, np.inf, np.nan, -0.1])])
    assert {name: band['tips'] for name, band in bands.items()} == {
        '<0.3': 1,
        '0.3-1': 1,
        '1-2': 1,
        '>=2': 2,
        '>=1': 3,
    }


def test_cnr_bands_match_among_all_tips_first():
    # One prediction, at the bright tip. The faint tip does not get it although it is alone in its
    # band and would be within 5 um.
    bands = by_cnr([make_record([[0.0, 0], [4.0, 0]], [[0.0, 0]], cnr=[3.0, 0.1])])
    assert bands['<0.3']['tip/acc@5um'] == 0 and bands['<0.3']['tip/missed'] == 100
    assert bands['>=2']['tip/acc@5um'] == 100


def test_groups():
    records = [
        make_record(subset='vivo', session='a'),
        make_record([[0.0, 0]], [[8.0, 0]], subset='vitro', session='b'),
    ]
    assert by_session(records)['b']['tip/error_um'] == 8
    assert by_count(records)[3]['tip/error_um'] == 0 and by_count(records)[1]['tips'] == 1
    assert by_session(records)['b']['tip/acc@10um'] == 100


@pytest.mark.parametrize('sessions', [1, 12])
@pytest.mark.parametrize('statistic', ['tip/acc@5um', 'tip/error_um', 'open/f1@5um'])
def test_bootstrap_contains_the_estimate_and_repeats(sessions, statistic):
    records = random_records(60, sessions)
    low, high = bootstrap(records, statistic)
    assert low < summarise(records)[statistic] < high
    assert (low, high) == bootstrap(records, statistic)
    assert (low, high) != bootstrap(records, statistic, seed=1)


def test_a_perfect_score_of_few_images_promises_little():
    few, many = (bootstrap([make_record()] * n, 'tip/acc@5um') for n in (10, 1000))
    assert few[1] == many[1] == 100 and 65 < few[0] < 80 and 99 < many[0] < 100
    assert bootstrap([make_record(pred=[])] * 10, 'tip/acc@5um') == pytest.approx((0, 100 - few[0]))


def test_bootstrap_draws_whole_sessions():
    # All frames of a session are alike: twenty times the frames do not narrow the interval.
    good, bad = make_record(), make_record(pred=[])
    few = [make_record(session=f's{i}', pred=TIPS if i % 2 else []) for i in range(10)]
    many = few * 20
    assert bootstrap(many, 'tip/acc@5um') == bootstrap(few, 'tip/acc@5um')
    low, high = bootstrap([good, bad] * 100, 'tip/acc@5um')  # one session: images are drawn
    few_low, few_high = bootstrap(few, 'tip/acc@5um')
    assert high - low < few_high - few_low


def test_bootstrap_of_one_unit_leaves_the_other_out():
    records = random_records(20)
    unscaled = [make_record(pred=[], pixel_size_um=None)] * 20
    assert bootstrap(records + unscaled, 'tip/acc@5um') == bootstrap(records, 'tip/acc@5um')
    assert bootstrap(unscaled, 'tip/acc@5px')[0] == 0


def test_intervals_hold_the_estimates_of_all_of_them_and_of_each_band():
    records = random_records(40, sessions=12)
    summary, around = summarise(records), intervals(records)
    assert {'tip/acc@5um', 'open/f1@5um', 'open/count_acc'} <= set(around)
    assert all(low <= summary[key] <= high for key, (low, high) in around.items())
    assert around['tip/acc@5um'] == bootstrap(records, 'tip/acc@5um')
    for band, own in by_cnr(records).items():
        within = intervals(records, band)
        assert all(low <= own[key] <= high for key, (low, high) in within.items())
    assert intervals([make_record()], '>=1') == {}


def test_who_finds_a_tip_that_does_not_count_is_neither_right_nor_wrong():
    record = make_record(pred=[*TIPS[:2], [150.0, 150.0]], cnr=[2.0, 0.5, 3.0])
    everything, seen = (
        open_count(record, 5, counted) for counted in (None, np.array([True, False, True]))
    )
    assert everything == (2, 3, 3) and seen == (1, 2, 2)
    own = by_cnr([record])
    assert own['>=1']['open/f1@5um'] == 50 and own['0.3-1']['open/recall@5um'] == 100
    # One prediction, two tips in reach: the one that counts has it.
    near = make_record(true=[[10.0, 10.0], [12.0, 10.0]], pred=[[10.5, 10.0]], cnr=[0.1, 2.0])
    assert open_count(near, 5, np.array([False, True])) == (1, 1, 1)


def test_bootstrap_names_what_has_no_data():
    with pytest.raises(ValueError, match='tip/nonsense'):
        bootstrap([make_record()], 'tip/nonsense')
    with pytest.raises(ValueError, match='tip/acc@5um'):
        bootstrap([], 'tip/acc@5um')


def test_the_error_of_finds_leaves_out_what_was_not_found():
    record = make_record(true=[[0, 0], [50, 0]], pred=[[3, 0], [50, 40]])
    summary = summarise([record])
    scale = record.pixel_size_um[0] if record.pixel_size_um else 1
    assert summary['tip/error@10um'] == pytest.approx(3 * scale)
    assert summary['tip/error_um'] > summary['tip/error@10um']
