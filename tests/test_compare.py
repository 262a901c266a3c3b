"""`compare`: the same images for all, one failure loses nothing, nothing is done twice."""

import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config

from pipedet.cli import main
from pipedet.commands import compare
from pipedet.commands.compare import name_runs
from pipedet.evaluation import TipRecord, read_records, write_report
from pipedet.evaluation.comparison import ModelResult, check_same_images, measure, to_markdown
from pipedet.evaluation.summary import bootstrap, paired_bootstrap
from pipedet.registry import DATASETS

TINY = Path(__file__).parent.parent / 'configs/_base_/tiny.py'


def make_records(error_px, seed=0, shift=0):
    """Records of twelve images in as many sessions, every prediction so far from its tip."""
    rng = np.random.default_rng(seed)
    records = []
    for i in range(12):
        true = rng.uniform(20, 200, (1 + i % 3, 2)) + shift
        records.append(
            TipRecord(
                source=f'{i}.png', frame=0, session=f's{i}', subset='standard', failed=False,
                pixel_size_um=(1.0, 1.0), true=true, pred=true + [error_px, 0.0],
                scores=np.ones(len(true)), score_threshold=0.5, cnr=None, heatmap_iou=0.25,
            )
        )  # fmt: skip
    return records


def test_a_perfect_model_scores_100_and_beats_a_poor_one_for_sure():
    results = [
        ModelResult(name='ours', records=make_records(0.0)),
        ModelResult(name='vgg16', records=make_records(7.0)),
    ]
    figures = measure(results)
    own = figures['groups']['standard']
    assert own['models']['ours']['summary']['tip/acc@3um'] == 100
    assert own['models']['vgg16']['share_within']['6.5'] == 0
    assert own['models']['vgg16']['share_within']['7.5'] == 100
    assert own['differences']['ours - vgg16'] == {t: (100, 100, 100) for t in (3, 5)} | {
        10: (0, 0, 0)
    }
    text = to_markdown(figures, {}, [])
    assert '| ours | 0.0 | 100.0 | 100.0 | 100.0 | 100.0 | 0.00 | 0.25 |' in text
    assert '11.70 | 31.72 | 49.65 | 69.65' in text  # the paper's VGG16
    assert '**+100.0 [+100.0, +100.0]**' in text and '**-100.0 [-100.0, -100.0]**' in text


def test_a_model_does_not_differ_from_itself_and_differences_change_sign():
    good, poor = make_records(0.0), make_records(2.0)
    assert paired_bootstrap(good, good, 'tip/error_um') == (0, 0, 0)
    forth = np.array(paired_bootstrap(poor, good, 'tip/error_um'))
    assert np.allclose(forth, 2)
    assert np.allclose(-forth[[0, 2, 1]], paired_bootstrap(good, poor, 'tip/error_um'))
    assert np.allclose(bootstrap(poor, 'tip/error_um'), 2)


def test_a_paired_interval_is_that_of_the_difference():
    rng = np.random.default_rng(1)
    theirs = [
        TipRecord(**(vars(r) | dict(pred=r.true + rng.uniform(0, 20, (1, 2)))))
        for r in make_records(0.0)
    ]
    ours = [TipRecord(**(vars(r) | dict(pred=r.true + (r.pred - r.true) * 1.5))) for r in theirs]
    value, low, high = paired_bootstrap(ours, theirs, 'tip/error_um')
    assert low < value < high
    wide = np.diff(bootstrap(ours, 'tip/error_um'))[0]
    # Half of an error each, drawn together: far narrower than two intervals of their own.
    assert high - low < 0.6 * wide


def test_images_without_tips_and_without_scale_have_tables_of_their_own(tmp_path):
    def change(record, **fields):
        return TipRecord(**(vars(record) | fields))

    records = make_records(1.0)
    none = dict(true=np.empty((0, 2)), subset='negatives', heatmap_iou=None)
    records = (
        records[:4]
        + [change(r, pixel_size_um=None) for r in records[4:8]]
        + [change(r, **none) for r in records[8:]]
    )
    results = [ModelResult(name=name, records=records) for name in ('a', 'b')]
    figures = measure(results)
    assert list(figures['groups']) == ['negatives', 'standard, px', 'standard']
    assert figures['groups']['standard, px']['models']['a']['summary']['tip/acc@3px'] == 100
    text = to_markdown(figures, {}, [])
    assert text.count('### Share of tips') == 2  # none of the negatives
    assert (
        figures['groups']['negatives']['models']['a']['summary']['open/ghosts_per_image'] == 9 / 4
    )


def test_other_images_are_told():
    results = [
        ModelResult(name='a', records=make_records(0.0)),
        ModelResult(name='b', records=make_records(0.0, shift=1)),
    ]
    check_same_images(results)
    assert not results[0].fault and results[1].fault == 'tested on other images than a'
    with pytest.raises(ValueError, match='different images'):
        paired_bootstrap(results[0].records, results[1].records, 'tip/acc@5um')


def test_names(tmp_path):
    paths = [tmp_path / name for name in ('a/ours.py', 'b/ours.py', 'a/vit.py', 'run7/config.py')]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert list(name_runs(paths)) == ['a_ours', 'b_ours', 'vit', 'run7']
    with pytest.raises(FileNotFoundError, match='no config at'):
        name_runs([tmp_path / 'none.py'])


@pytest.fixture
def launched(monkeypatch):
    """Replace processes by what they leave behind; return what was launched."""
    done = []

    def leave(verb, config, *arguments, log):
        options = dict(zip(arguments[::2], arguments[1::2], strict=False))
        done.append((verb, Path(config).stem, *arguments))
        if 'broken' in str(config):
            raise RuntimeError('out of luck (exit 1)')
        if verb == 'train':
            folder = options['--work-dir']
            folder.mkdir(exist_ok=True)
            Config.fromfile(TINY).dump(folder / 'config.py')
            (folder / 'model.safetensors').touch()
            (folder / 'train.json').write_text('{"samples_seen": 32}', encoding='utf-8')
        elif verb == 'test':
            dataset = DATASETS.build(Config.fromfile(config).test_dataloader.dataset)
            samples = [dataset[i]['data_samples'] for i in range(len(dataset))]
            records = [
                TipRecord(
                    source=s.source, frame=s.frame, session=s.session, subset=s.subset,
                    pixel_size_um=s.pixel_size_um, true=s.gt_tips.points, pred=s.gt_tips.points,
                    scores=np.ones(len(s.gt_tips)), score_threshold=0.5, cnr=None,
                )
                for s in samples
            ]  # fmt: skip
            write_report(records, options['--out'], 'test', {})
        else:
            costs = dict(p50_ms=2.0, p99_ms=3.0)
            options['--out'].write_text(
                json.dumps(dict(gflop=1, parameters_m=2, batches=[costs])), encoding='utf-8'
            )

    monkeypatch.setattr(compare, 'launch', leave)
    return done


def test_one_failed_model_does_not_lose_the_rest(tmp_path, launched):
    configs = []
    for name in ('ours', 'broken', 'vit'):
        configs.append(str(tmp_path / f'{name}.py'))
        Config.fromfile(TINY).dump(configs[-1])
    command = ['compare', *configs, '--out', str(tmp_path / 'out')]
    command += ['--cfg-options', 'model.average_views=False', '--budget', '1m']
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 1
    report = (tmp_path / 'out/report.md').read_text(encoding='utf-8')
    assert '**broken has no figures**: out of luck' in report
    figures = json.loads((tmp_path / 'out/comparison.json').read_text(encoding='utf-8'))
    (subset,) = figures['groups'].values()
    assert subset['models']['vit']['summary']['tip/acc@3um'] == 100
    page = (tmp_path / 'out/report.html').read_text(encoding='utf-8')
    assert '<table>' in page
    for picture in ('curves.png', 'errors.png', 'costs.png', 'frames.jpg'):
        (name,) = (tmp_path / 'out').glob(f'*_{picture}')
        assert name.name in page

    timed = [call for call in launched if call[0] == 'latency']
    assert all('model.average_views=False' in call for call in timed)

    count = len(launched)
    with pytest.raises(SystemExit):
        main(command)  # again: only what failed is tried
    assert [call[:2] for call in launched[count:]] == [('train', 'broken')]
    with pytest.raises(SystemExit, match='another budget: choose another folder'):
        main([*command[:-1], '2m'])


def test_a_real_comparison_trains_tests_and_times(tmp_path):
    out = tmp_path / 'out'
    options = ['--cfg-options', 'train_cfg.stages.0.epochs=1']
    main(['compare', str(TINY), '--out', str(out), *options])
    figures = json.loads((out / 'comparison.json').read_text(encoding='utf-8'))
    (subset,) = figures['groups'].values()
    assert 0 <= subset['models']['tiny']['summary']['heatmap/iou'] <= 1
    assert figures['training']['tiny']['samples_seen'] == 16
    assert figures['costs']['tiny']['batches'][0]['p50_ms'] > 0
    assert len(read_records(out / 'tiny/test/records.json')) == 8
