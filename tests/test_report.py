import json
from dataclasses import asdict

import numpy as np
import pytest

from pipedet.evaluation import TipRecord, read_records, summarise, write_report


def make_records():
    rng = np.random.default_rng(0)
    records = []
    for index in range(24):
        true = rng.uniform(0, 200, (index % 4, 2))
        records.append(
            TipRecord(
                source=f'{index}.tif',
                frame=index,
                session=f's{index % 3}',
                subset=('vivo', 'a|b')[index % 2],
                pixel_size_um=None if index > 20 else (0.5, 0.6),
                true=true,
                pred=true + rng.normal(0, 5, true.shape),
                scores=rng.uniform(0, 1, len(true)),
                score_threshold=0.3,
                cnr=None if index == 5 else rng.exponential(1, len(true)),
                failed=index == 6,
            )
        )
    records[3].pred[0] = np.nan
    records[3].pred[1] = -np.inf
    records[3].cnr[:2] = np.nan, np.inf
    return records


def test_records_round_trip(tmp_path):
    records = make_records()
    write_report(records, tmp_path, 'Title', {})
    read = read_records(tmp_path / 'records.json')
    for before, after in zip(records, read, strict=True):
        np.testing.assert_equal(asdict(after), asdict(before))
    assert summarise(read) == summarise(records)


def test_files_are_strict_json_and_agree(tmp_path):
    context = dict(device='cpu', seed=3, checkpoint='best.pth')
    records = make_records()
    text = write_report(records, tmp_path / 'new' / 'folder', 'Our model', context)
    folder = tmp_path / 'new' / 'folder'
    assert (folder / 'report.md').read_text(encoding='utf-8') == text

    def refuse(constant):
        raise AssertionError(constant)

    metrics = json.loads(
        (folder / 'metrics.json').read_text(encoding='utf-8'), parse_constant=refuse
    )
    json.loads((folder / 'records.json').read_text(encoding='utf-8'), parse_constant=refuse)
    assert metrics['title'] == 'Our model' and metrics['context'] == context
    assert metrics['overall'] == summarise(records) and metrics['failed'] == 1
    own = metrics['subsets']['um']['vivo']
    low, high = own['interval_95']['tip/acc@5um']
    assert low <= own['summary']['tip/acc@5um'] <= high
    assert set(metrics['sessions']) == {'s0', 's1', 's2'}


def test_tables_never_mix_protocols_or_units(tmp_path):
    text = write_report(make_records(), tmp_path, 'Our model', dict(seed=3))
    assert text.startswith('# Our model\n\n- seed: 3\n')
    assert 'failed on 1 of 24 images' in text
    headers = [line for line in text.splitlines() if line.startswith('| subset')]
    assert len(headers) == 10  # (three known-count tables, two open-count ones) in um, then in px
    for header in headers:
        assert ('acc@' in header) != ('recall@' in header)
        assert (' um' in header) != (' px' in header)
    tables = [line for line in text.splitlines() if line.startswith('|')]
    assert any(line.startswith('| a\\|b |') for line in tables)
    assert 'nan' not in text and 'inf' not in text


def test_table_of_a_known_case(tmp_path):
    record = TipRecord(
        source='a',
        frame=0,
        session='s',
        subset='vivo',
        pixel_size_um=(1, 1),
        true=[[0, 0], [50, 0]],
        pred=[[4, 0], [50, 0], [90, 0]],
        scores=[0.9, 0.8, 0.7],
        score_threshold=0.5,
        cnr=[0.5, 3],
    )
    text = write_report([record], tmp_path, 'T', {})
    # One image: shares of none and of all are Wilson's, nothing is known of how the others vary.
    none, every = '0.0 [0.0, 79.3]', '100.0 [20.7, 100.0]'
    known = f'50.0 | {every} | {every} | 2.00 | 2.00 | 2.00 | {none} |'
    assert f'| vivo | 1 | 2 | {known}' in text and f'| vivo | 2 | 1 | 2 | {known}' in text
    assert f'| 0.3-1 | 1 | {none} | {every} | {every} | 4.00 | 4.00 | 4.00 | {none} |' in text
    open_count = f'66.7 | {every} | 80.0 | 66.7 | {every} | 80.0 | {none} | 1.00 |'
    assert f'| vivo | 1 | {open_count}' in text and f'| vivo | 2 | 1 | {open_count}' in text


def test_empty_report(tmp_path):
    text = write_report([], tmp_path, 'Nothing', {})
    assert text.startswith('# Nothing')
    assert read_records(tmp_path / 'records.json') == []


def test_context_that_json_cannot_hold_leaves_no_files(tmp_path):
    with pytest.raises(ValueError):
        write_report(make_records(), tmp_path, 'T', dict(loss=float('nan')))
    assert not list(tmp_path.iterdir())
