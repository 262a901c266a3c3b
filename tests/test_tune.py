"""Tune: rounds are proposed, kept, counted and reported; one of them really trains."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from pipedet.commands import tune

optuna = pytest.importorskip('optuna')
TINY = Path(__file__).parent.parent / 'configs' / '_base_' / 'tiny.py'
SIGMA = 'model.coarse.sigma'


def run(folder, *arguments):
    parser = argparse.ArgumentParser()
    tune.add_arguments(parser)
    tune.run(parser.parse_args([str(TINY), '--work-dir', str(folder), *arguments]))
    return json.loads((folder / 'tune.json').read_text(encoding='utf-8'))


@pytest.fixture
def trainings(monkeypatch):
    """Trainings that are not run: the metric is best at sigma 7; the list is of their arguments."""
    launched = []

    def fake(*arguments, log):
        arguments = [str(argument) for argument in arguments]
        launched.append(arguments)
        options = dict(a.split('=') for a in arguments[arguments.index('--cfg-options') + 1 :])
        sigma = float(options[SIGMA])
        if fake.fails(len(launched)):
            raise RuntimeError('the cat unplugged it')
        folder = Path(arguments[arguments.index('--work-dir') + 1])
        folder.mkdir(parents=True)
        off = abs(np.log(sigma / 7))
        metrics = {'tip/acc@5um': 90 - 10 * off, 'tip/error_um': 2 + off, 'loss': float('nan')}
        record = dict(device='abacus', validation=metrics)
        (folder / 'train.json').write_text(json.dumps(record), encoding='utf-8')

    fake.fails = lambda count: False
    launched_by = argparse.Namespace(arguments=launched, fake=fake)
    monkeypatch.setattr(tune, 'launch', fake)
    return launched_by


@pytest.mark.parametrize(
    'text, kind, of',
    [
        ('a.b=4.0:20.0', 'float', dict(low=4.0, high=20.0, log=False)),
        ('a.b=1e-4:1:log', 'float', dict(low=1e-4, high=1, log=True)),
        ('a.b=2:8', 'int', dict(low=2, high=8, log=False)),
        ('a.b=-3:3', 'int', dict(low=-3, high=3, log=False)),
        ('a.b=sum|max', 'categorical', dict(choices=['sum', 'max'])),
    ],
)
def test_ranges_are_read(text, kind, of):
    assert tune.parse_search(text) == ('a.b', dict(kind=kind, of=of))


@pytest.mark.parametrize(
    'text',
    ['a.b', 'a.b=3', 'a.b=3:2', 'a.b=2:2', 'a.b=0:1:log', 'a.b=x:y', 'a.b=1:2:3', 'a.b=1:NaN'],
)
def test_what_is_no_range_is_refused(text):
    with pytest.raises(ValueError, match='LOW < HIGH'):
        tune.parse_search(text)


@pytest.mark.parametrize('key', ['modle.coarse.sigma', 'train_dataloader.batchsize', 'sigma'])
def test_a_key_that_would_change_nothing_is_refused(tmp_path, trainings, key):
    with pytest.raises(ValueError, match=f'{key}: .*no such key'):
        run(tmp_path, '--search', f'{key}=1:2')
    assert not trainings.arguments


def test_rounds_find_the_best_and_are_reported(tmp_path, trainings):
    options = ['--cfg-options', 'train_cfg.stages.0.epochs=1', 'model.average_views=False']
    search = ['--search', f'{SIGMA}=2.0:20.0:log', 'train_dataloader.batch_size=2:8']
    search += ['model.coarse.merge=sum|max']
    report = run(tmp_path, *search, '--rounds', '12', '--seed', '3', '--budget', '5m', *options)
    rounds = report['rounds']
    values = [r['value'] for r in rounds]
    assert len(rounds) == 12 and report['best'] == int(np.argmax(values)) and max(values) > 85
    assert report['budget'] == '5m' and report['seed'] == 3 and report['device'] == 'abacus'
    # Which of the three mattered is known in a fake: sigma alone.
    assert max(report['importance'], key=report['importance'].get) == SIGMA
    first = trainings.arguments[0]
    assert first[:3] == ['train', str(TINY), '--no-test']
    for pair in (['--seed', '3'], ['--budget', '5m'], ['--work-dir', str(tmp_path / 'round_000')]):
        assert first[first.index(pair[0]) + 1] == pair[1]
    assert {'train_cfg.stages.0.epochs=1', 'model.average_views=False'} < set(first)
    params = rounds[0]['params']
    assert 2 <= params[SIGMA] <= 20 and params['model.coarse.merge'] in ('sum', 'max')
    assert isinstance(params['train_dataloader.batch_size'], int)
    text = (tmp_path / 'tune.md').read_text(encoding='utf-8')
    assert f'{SIGMA}={rounds[report["best"]]["params"][SIGMA]}' in text
    assert (tmp_path / 'tune.png').read_bytes()[1:4] == b'PNG'


def test_errors_and_losses_are_minimised(tmp_path, trainings):
    report = run(
        tmp_path, '--search', f'{SIGMA}=2.0:20.0', '--rounds', '4', '--metric', 'tip/error_um'
    )
    values = [r['value'] for r in report['rounds']]
    assert report['best'] == int(np.argmin(values)) and 'minimize' in report['metric']
    lower = ['loss', 'tip/error@10um', 'tip/median_px', 'tip/missed', 'open/ghosts_per_image']
    higher = ['tip/acc@5um', 'open/f1@5um', 'open/count_acc', 'heatmap/iou', 'image/ssim']
    assert all(map(tune.LOWER.search, lower)) and not any(map(tune.LOWER.search, higher))


def test_a_search_goes_on_as_if_it_had_not_stopped(tmp_path, trainings):
    search = ['--search', f'{SIGMA}=2.0:20.0', '--seed', '1']
    run(tmp_path / 'a', *search, '--rounds', '11')  # the first ten are drawn without a look back
    parts = run(tmp_path / 'a', *search, '--rounds', '14')
    assert len(trainings.arguments) == 14
    whole = run(tmp_path / 'b', *search, '--rounds', '14')
    sigmas = [[r['params'][SIGMA] for r in report['rounds']] for report in (parts, whole)]
    assert sigmas[0] == sigmas[1] and len(set(sigmas[0])) == 14
    with pytest.raises(ValueError, match='another seed and search'):
        run(tmp_path / 'a', '--search', f'{SIGMA}=2.0:30.0', '--seed', '2')
    with pytest.raises(ValueError, match='another config'):
        run(tmp_path / 'a', *search, '--cfg-options', 'model.max_tips=4')


def test_two_searches_of_one_storage_share_their_rounds(tmp_path, trainings):
    search = ['--search', f'{SIGMA}=2.0:20.0', '--seed', '1', '--study', 'shared']
    search += ['--storage', f'sqlite:///{tmp_path}/shared.db']
    run(tmp_path / 'a', *search, '--rounds', '2')
    report = run(tmp_path / 'b', *search, '--rounds', '4')
    assert [r['round'] for r in report['rounds']] == [0, 1, 2, 3]
    assert (tmp_path / 'b' / 'round_002').is_dir() and len(trainings.arguments) == 4


def test_a_failed_round_does_not_count_and_three_in_a_row_stop(tmp_path, trainings):
    trainings.fake.fails = lambda count: count == 2
    report = run(tmp_path, '--search', f'{SIGMA}=2.0:20.0', '--rounds', '3')
    assert [r['state'] for r in report['rounds']] == ['COMPLETE', 'FAIL', 'COMPLETE', 'COMPLETE']
    assert report['rounds'][1]['fault'] == 'the cat unplugged it'
    assert 'the cat unplugged it' in (tmp_path / 'tune.md').read_text(encoding='utf-8')
    trainings.fake.fails = lambda count: True
    with pytest.raises(RuntimeError, match='3 rounds in a row failed.*cat'):
        run(tmp_path, '--search', f'{SIGMA}=2.0:20.0', '--rounds', '9')
    assert len(trainings.arguments) == 7


@pytest.mark.parametrize('metric', ['loss', 'tip/acc@4um'])
def test_a_metric_that_is_not_there_is_named_with_those_that_are(tmp_path, trainings, metric):
    with pytest.raises(RuntimeError, match=f'{metric} of the validation is .*tip/error_um'):
        run(tmp_path, '--search', f'{SIGMA}=2.0:20.0', '--metric', metric)


def test_an_interrupted_round_does_not_look_like_a_running_one(tmp_path, trainings, monkeypatch):
    def interrupt(*arguments, log):
        raise KeyboardInterrupt

    monkeypatch.setattr(tune, 'launch', interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, '--search', f'{SIGMA}=2.0:20.0')
    monkeypatch.setattr(tune, 'launch', trainings.fake)
    report = run(tmp_path, '--search', f'{SIGMA}=2.0:20.0', '--rounds', '1')
    assert [r['state'] for r in report['rounds']] == ['FAIL', 'COMPLETE']


def test_a_storage_that_cannot_be_used_is_named(tmp_path, trainings):
    with pytest.raises(ValueError, match='--storage nonsense'):
        run(tmp_path, '--search', f'{SIGMA}=2.0:20.0', '--storage', 'nonsense')


def test_without_optuna_it_says_how_to_install_it(tmp_path, trainings, monkeypatch):
    monkeypatch.setitem(sys.modules, 'optuna', None)
    with pytest.raises(RuntimeError, match=r'pip install "pipedet\[tune\]"'):
        run(tmp_path, '--search', f'{SIGMA}=2.0:20.0')


def test_a_round_really_trains(tmp_path):
    options = ['train_cfg.stages.0.epochs=1', 'model.average_views=False']
    options += [f'{name}_dataloader.dataset.length=2' for name in ('train', 'val')]
    search = ['--search', f'{SIGMA}=4.0:8.0', '--metric', 'open/ghosts_per_image', '--rounds', '1']
    report = run(tmp_path, *search, '--cfg-options', *options)
    record = json.loads((tmp_path / 'round_000' / 'train.json').read_text(encoding='utf-8'))
    assert report['rounds'][0]['value'] == record['validation']['open/ghosts_per_image']
    assert report['device'] == record['device'] and record['samples_seen'] == 4  # a batch
    sigma = report['rounds'][0]['params'][SIGMA]
    assert f'sigma={sigma}' in (tmp_path / 'round_000' / 'config.py').read_text(encoding='utf-8')
    assert not (tmp_path / 'round_000' / 'test').exists()
