r"""Search a few keys of a config: every round trains, and is judged by its last validation.

The paper's search of sigma and alpha, in 20 rounds:

    pipedet tune configs/ours.py --rounds 20 \
        --search model.coarse.sigma=4.0:20.0 model.fine.alpha=0.01:1.0:log

A round is a `pipedet train --no-test` in a process of its own: the test sets are never seen.
Optuna's TPE proposes the values and its storage keeps the rounds: a search goes on where it
stopped, and several processes or machines may share one, each beginning rounds until enough are
finished. A config that trains an enhancer first would do so in every round: give its weights,
`--cfg-options first.weights=FILE`. The metric `loss` would compare nothing here: sigma and alpha
change the loss itself.
"""

import argparse
import datetime
import json
import math
import re
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from mmengine.config import Config

from pipedet.commands.common import add_config_arguments, load_config
from pipedet.commands.launch import digest_of, launch
from pipedet.engine.budget import parse_duration
from pipedet.engine.loops import iteration_seed
from pipedet.evaluation.report import markdown_table

# A metric named with one of these words is better when it is lower, any other when it is higher.
LOWER = re.compile('loss|error|median|missed|ghosts|unread|mse')
MAX_FAILURES = 3  # in a row: then it is not the values that are at fault
IMPORTANCE_ROUNDS = 10  # it compares the best tenth with the rest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_config_arguments(parser)
    help_text = "KEY=LOW:HIGH, KEY=LOW:HIGH:log, 'KEY=a|b|c'; integers where both ends are"
    parser.add_argument('--search', nargs='+', required=True, metavar='KEY=VALUES', help=help_text)
    parser.add_argument('--rounds', type=int, default=20, help='to be finished in all [20]')
    parser.add_argument('--budget', metavar='T', help='train each round for about T, such as 5m')
    parser.add_argument('--metric', default='tip/acc@5um', help='of the validation [%(default)s]')
    parser.add_argument('--study', help='name of the search in its storage [NAME OF CONFIG]')
    parser.add_argument('--storage', help='database URL [sqlite:///RUN FOLDER/tune.db]')
    parser.add_argument('--seed', type=int, help='of the proposed values and of every training')


def run(args: argparse.Namespace) -> None:
    """Run rounds until enough are finished; write tune.json, tune.md and tune.png after each."""
    config = load_config(args)
    search = dict(parse_search(text) for text in args.search)
    for key in search:
        _check_key(config, key)
    if args.budget is not None:
        parse_duration(args.budget)  # a fault in it should not wait for the first round
    study = _open_study(config, args, search)
    folder, failures = Path(config.work_dir), 0
    report = _write_report(study, args, folder)
    while sum(trial.state.name == 'COMPLETE' for trial in study.trials) < args.rounds:
        fault = _run_round(study, config, args, search)
        report = _write_report(study, args, folder)
        failures = failures + 1 if fault else 0
        if failures == MAX_FAILURES:
            raise RuntimeError(f'{failures} rounds in a row failed, the last one: {fault}')
    print(report)


def parse_search(text: str) -> tuple[str, dict[str, Any]]:
    """Return a key and its values, as the arguments `of` Optuna's `suggest_<kind>`."""
    key, _, values = text.partition('=')
    if '|' in values:
        return key, dict(kind='categorical', of=dict(choices=values.split('|')))
    log = values.endswith(':log')
    try:
        low, high = map(json.loads, values.removesuffix(':log').split(':'))
        if not 0 < high - low < math.inf or (log and low <= 0):
            raise ValueError
    except (ValueError, TypeError):
        raise ValueError(
            f"--search {text}: write KEY=LOW:HIGH, KEY=LOW:HIGH:log or 'KEY=a|b|c', with numbers "
            'LOW < HIGH, LOW above 0 for log'
        ) from None
    kind = 'int' if isinstance(low, int) and isinstance(high, int) else 'float'
    return key, dict(kind=kind, of=dict(low=low, high=high, log=log))


def _check_key(config: Config, key: str) -> None:
    """Refuse a key that no training would read, nor complain about."""
    *path, last = key.split('.')
    part = config.to_dict()
    for name in path:
        if isinstance(part, list):
            part = {str(index): item for index, item in enumerate(part)}
        part = part.get(name) if isinstance(part, dict) else None
    # What has a type is constructed, and a constructor knows its arguments.
    if not isinstance(part, dict) or not {last, 'type'} & part.keys():
        raise ValueError(f'--search {key}: {config.filename} has no such key')


def _open_study(config: Config, args: argparse.Namespace, search: dict):
    """Begin the study or go on with it; refuse one whose figures would not compare."""
    try:
        import optuna
    except ImportError as error:
        raise RuntimeError('tune needs Optuna: pip install "pipedet[tune]"') from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = Path(config.work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    storage = args.storage or f'sqlite:///{folder.resolve()}/tune.db'
    name = args.study or args.config.stem
    direction = 'minimize' if LOWER.search(args.metric) else 'maximize'
    try:
        study = optuna.create_study(
            storage=storage, study_name=name, direction=direction, load_if_exists=True
        )
    except Exception as error:  # SQLAlchemy and its drivers raise many kinds
        raise ValueError(f'--storage {storage} cannot be used: {error}') from error
    plan = {key: getattr(args, key) for key in ('metric', 'budget', 'seed')}
    plan |= dict(config=digest_of(config), search=search)
    begun = study.user_attrs.get('plan', plan)
    changed = [key for key in plan if begun[key] != plan[key]]
    if changed:
        raise ValueError(
            f'study {name!r} of {storage} was begun with another {" and ".join(changed)}: give the '
            'same, or another --study and --work-dir'
        )
    study.set_user_attr('plan', plan)
    return study


def _run_round(study, config: Config, args: argparse.Namespace, search: dict) -> str | None:
    """Train once and tell the study; return what went wrong, None if nothing did."""
    import optuna

    trial = study.ask()
    seed = config.randomness.seed if args.seed is None else args.seed
    # Drawn by the round's number: a search that goes on, or is shared, does not repeat itself.
    study.sampler = optuna.samplers.TPESampler(seed=iteration_seed(seed, trial.number))
    values = {k: getattr(trial, f'suggest_{s["kind"]}')(k, **s['of']) for k, s in search.items()}
    folder = Path(config.work_dir) / f'round_{trial.number:03d}'
    arguments = ['train', args.config, '--no-test', '--work-dir', folder]
    arguments += [] if args.budget is None else ['--budget', args.budget]
    arguments += [] if args.seed is None else ['--seed', args.seed]
    try:
        options = _to_options(args.cfg_options | values)
        launch(*arguments, '--cfg-options', *options, log=folder / 'log.txt')
        record = json.loads((folder / 'train.json').read_text(encoding='utf-8'))
        value = record['validation'].get(args.metric)
        if value is None or not math.isfinite(value):
            there = ', '.join(sorted(record['validation']))
            raise RuntimeError(f'{args.metric} of the validation is {value}; there are {there}')
    except BaseException as error:  # Ctrl-C too, lest the round look as if it still ran
        fault = str(error) or type(error).__name__
        trial.set_user_attr('fault', fault)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        print(f'round {trial.number} failed: {fault}', flush=True)
        if isinstance(error, RuntimeError | OSError):
            return fault
        raise
    trial.set_user_attr('device', record['device'])
    study.tell(trial, value)
    said = ' '.join(_to_options(values))
    print(f'round {trial.number}: {args.metric} {value:.4g} with {said}', flush=True)
    return None


def _to_options(values: dict[str, Any]) -> list[str]:
    return [f'{key}={value}' for key, value in values.items()]


def _write_report(study, args: argparse.Namespace, folder: Path) -> str:
    """Write tune.json, tune.md and tune.png; return the text."""
    import optuna

    plan, trials = study.user_attrs['plan'], study.trials
    finished = [trial for trial in trials if trial.value is not None]
    importance: Any = f'not known from fewer than {IMPORTANCE_ROUNDS} rounds'
    if len(finished) >= IMPORTANCE_ROUNDS:
        importance = optuna.importance.get_param_importances(study)
    context = dict(
        study=study.study_name,
        metric=f'{plan["metric"]} of the last validation, to {study.direction.name.lower()}',
        rounds=f'{len(finished)} finished, of {args.rounds}',
        best=study.best_trial.number if finished else None,
        best_options=' '.join(_to_options(study.best_params)) if finished else None,
        importance=importance,
        budget=plan['budget'],
        seed=plan['seed'],
        device=', '.join(sorted({trial.user_attrs['device'] for trial in finished})),
        date=datetime.date.today().isoformat(),
    )
    rounds = [
        dict(round=t.number, value=t.value, params=t.params, state=t.state.name) | t.user_attrs
        for t in trials
    ]
    rows = [
        [t.number, _cell(t.value), *(_cell(t.params.get(key)) for key in plan['search']),
         t.user_attrs.get('fault', t.state.name)]
        for t in trials
    ]  # fmt: skip
    lines = [f'# Search of {args.config.name}', '', *(f'- {k}: {v}' for k, v in context.items())]
    lines += ['', *markdown_table(['round', plan['metric'], *plan['search'], 'state'], rows)]
    content = dict(context, search=plan['search'], rounds=rounds)
    (folder / 'tune.json').write_text(json.dumps(content, indent=1), encoding='utf-8')
    (folder / 'tune.md').write_text('\n'.join(lines), encoding='utf-8')
    if finished:
        _plot(finished, plan, folder / 'tune.png')
    return '\n'.join(lines)


def _cell(value: Any) -> str:
    return f'{value:.4g}' if isinstance(value, float) else '-' if value is None else str(value)


def _plot(finished: list, plan: dict[str, Any], path: Path) -> None:
    """Plot the metric against each key."""
    figure = Figure(figsize=(4 * len(plan['search']), 3.4), layout='constrained')
    for number, (key, values) in enumerate(plan['search'].items(), start=1):
        axes = figure.add_subplot(1, len(plan['search']), number)
        axes.plot([t.params[key] for t in finished], [t.value for t in finished], 'o')
        axes.set(xlabel=key, ylabel=plan['metric'])
        axes.set_xscale('log' if values['of'].get('log') else axes.get_xscale())
    figure.savefig(path, dpi=110)
