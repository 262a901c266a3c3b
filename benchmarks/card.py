"""The card of a model of the zoo: what was measured of it, as Markdown."""

SURE = 0.8  # share of the answers, or of the images, those of most confidence
SHOWN = {
    'clear': 'two-photon scenes, `clear`',
    'standard': 'two-photon scenes, `standard`',
    'brightfield': 'brightfield scenes, drawn',
    'diffraction': 'brightfield scenes, from their optics',
    'slice': 'slices under DIC, from their optics',
    'exvivo_zstack': 'real brightfield images of one pipette',
}


def card_of(found: dict) -> str:
    """Return the model card."""
    seconds, seen = (sum(t[key] for t in found['trainings']) for key in ('train_s', 'samples_seen'))
    lines = [
        f'# {found["name"]}',
        '',
        f'A TipNet of {found["parameters"] / 1e6:.1f} M parameters '
        f'({found["bytes"] / 1e6:.1f} MB): up to eight tips, each with a chance of being one, a '
        'covariance, the direction of its shaft and, in brightfield, its height above the focus.',
        '',
        f'**Trained** on synthetic scenes alone, {seen} images in {seconds / 3600:.1f} h, then '
        f'`pipedet calibrate`; measured {found["date"]}, torch {found["torch"]}. No real image was '
        'trained on.',
        '',
        *map(_round, found['trainings']),
        '',
        'The commands are as they were given: configs change, and the weights of a name are those '
        'of the day.',
        '',
        '| set | images | within 3 um, % | 5 (95 %) | 10 | mean error | median | F1@5 | ghosts | '
        'answers | ECE | 90 % ellipse holds | unfamiliar, % |',
        '|---|---|---|---|---|---|---|---|---|---|---|---|---|',
    ]
    for name, row in found['sets'].items():
        lines.append(_row(name, row))
        if 'CNR >= 1' in row:
            lines.append(_row(f'{name}, CNR >= 1', row['CNR >= 1']))
    standard = found['sets']['standard']
    parts = '; '.join(
        f'{part} {value:.1f}'
        for key in ('by CNR', 'by count')
        for part, value in standard[key].items()
    )
    lines += [
        '',
        'Known count for distances (as many answers as tips), open count for F1 and ghosts '
        '(answers without a tip at 10 um, a frame). The first three sets are frozen; `crowded`, '
        '`empty`, `brightfield` (drawn), `diffraction` (computed from its optics) and `slice` (as '
        'the former, under interference contrast and before tissue) come from the stream; '
        'folders of real images follow, their distances those of images with a scale. '
        'ECE: by how much the score is off as a chance, on average. 90 % ellipse holds: share of '
        'the tips found within 10 um that lie in theirs (0.90 is right). '
        'Unfamiliar: images not answered, being unlike those of training. Of the tips of CNR 1 and '
        'more in the open count an answer for a fainter one is neither right nor wrong.',
        '',
        'Of `standard`, within 10 um, %, by CNR and then by the number of tips in the image: '
        f'{parts}.',
        '',
        'What other thresholds than its own (the first) would answer on `standard` and `empty`:',
        '',
        '| score from | found within 5 um, % | of the answers right, % | ghosts a frame, `empty` |',
        '|---|---|---|---|',
        *map(_choice, found['thresholds']),
        '',
        *_surety(found['sets']),
        '**Limits.** Pixels of 0.5 to 1 um; others are scaled to that, and of an image without a '
        'scale the shorter side is taken to be 256 pixels of about 0.75 um. Faint tips (CNR < 1) '
        'are often missed. Heights are learned in brightfield only; trust them where they beat the '
        'brackets (how fast a look changes with height is a matter of the optics, of which one '
        'image does not tell). The scores are chances on scenes like those of training; on another '
        'rig check them before a robot moves. An image unlike those of training is not answered '
        '(`abstained`), but not every such image is noticed: see Pipette-C in benchmarks/.',
        '',
    ]
    return '\n'.join(lines)


def _surety(sets: dict[str, dict]) -> list[str]:
    """Return what is known of whole answers, of the surest, and of heights."""
    heights = [
        f'{name} {row["height_error_um"]:.1f} ({row["height_error_of_zero_um"]:.1f})'
        for name, row in sets.items()
        if 'height_error_um' in row
    ]
    answers = [
        f'{name} {row["count_right"]:.1f}, {row["right"]:.1f} ({row["confidence_error"]:.3f})'
        for name, row in sets.items()
        if 'right' in row
    ]
    directions = [
        '{} {:.1f}, {:.1f}'.format(name, *row['direction_error_deg'])
        for name, row in sets.items()
        if 'direction_error_deg' in row
    ]
    relied = [
        f'{name} '
        + ', '.join(
            f'{own["answered"]:.1f} and {own["silent"]:.1f} (at most {own["silent_at_most"]:.1f})'
            for level, own in row['sure'].items()
            if float(level)
        )
        for name, row in sets.items()
        if 'sure' in row
    ]
    standard = sets['standard']
    return [
        'Images with as many answers as tips, %; of those with a scale the ones with every tip '
        'within 10 um and nothing else, %; and in brackets how far the `confidence` in that is off '
        'on average: '
        f'{"; ".join(answers)}.',
        '',
        f'Of the {100 * SURE:.0f} % of the answers in `standard` with the best scores (told how '
        f'many), {standard["surest_tips/acc@5um"]:.1f} % lie within 5 um; in the '
        f'{100 * SURE:.0f} % of the images of most confidence, {standard["surest/acc@5um"]:.1f} %. '
        'Share of wrong answers among the surest images, averaged over how many are taken (AURC): '
        f'{standard["doubt_area"]:.2f}; by the best score in place of the confidence '
        f'{standard["doubt_area_of_best_score"]:.2f}.',
        '',
        'Images answered where a confidence of 0.5, 0.7 is asked for (`min_confidence`), and those '
        f'answered wrongly of all images, %, with its one-sided 95 % bound: {"; ".join(relied)}.',
        '',
        'Error of the direction of the tips found within 10 um (told how many), degrees, median '
        f'and ninth decile: {"; ".join(directions) or "not measured"}.',
        '',
        'Mean error of the height, um, and in brackets that of answering 0 always: '
        f'{"; ".join(heights) or "not measured"}.',
        '',
    ]


def summary_of(found: dict) -> str:
    """Return what the main README says of a model, told and not told how many tips there are."""
    own = found['thresholds'][0]
    lines = [
        '| images | told how many: within 5 um, % (95 %) | 10 um | median, um | untold: found, % | '
        'right, % |',
        '|---|---|---|---|---|---|',
    ]
    for name, label in SHOWN.items():
        if name not in found['sets']:
            continue
        row, free = found['sets'][name], own[name]
        low, high = row['interval@5um']
        lines.append(
            f'| {label} | {row["tip/acc@5um"]:.1f} ({low:.1f} to {high:.1f}) | '
            f'{row["tip/acc@10um"]:.1f} | {row["tip/median_um"]:.2f} | '
            f'{free["open/recall@5um"]:.1f} | {free["open/precision@5um"]:.1f} |'
        )
        if 'CNR >= 1' in row:
            seen = row['CNR >= 1']
            lines.append(
                f'| its tips of CNR 1 and more | {seen["tip/acc@5um"]:.1f} | '
                f'{seen["tip/acc@10um"]:.1f} | {seen["tip/median_um"]:.2f} | | |'
            )
    return '\n'.join(lines)


def _round(training: dict) -> str:
    images, minutes = training['samples_seen'], training['train_s'] / 60
    note = f' ({training["note"]})' if training.get('note') else ''  # what no command tells
    return (
        f'- `pipedet {training["command"]}`: {images} images in {minutes:.0f} min '
        f'on {training["device"]}; {training["data"]}{note}'
    )


def _choice(row: dict) -> str:
    standard, empty = row['standard'], row['empty']
    return (
        f'| {row["threshold"]:.2f} | {standard["open/recall@5um"]:.1f} | '
        f'{standard["open/precision@5um"]:.1f} | {empty["open/ghosts_per_image"]:.3f} |'
    )


def _row(name: str, row: dict) -> str:
    def cell(key: str, digits: int = 1, factor: float = 1.0) -> str:
        return f'{factor * row[key]:.{digits}f}' if key in row else '-'

    low_high = ''
    if 'interval@5um' in row:
        low_high = ' ({:.1f} to {:.1f})'.format(*row['interval@5um'])
    cells = [
        name,
        cell('images', 0),
        cell('tip/acc@3um'),
        cell('tip/acc@5um') + low_high,
        cell('tip/acc@10um'),
        cell('tip/error_um', 2),
        cell('tip/median_um', 2),
        cell('open/f1@5um'),
        cell('open/ghosts_per_image', 3),
        cell('answers', 0),
        cell('calibration_error', 3),
        cell('coverage', 2),
        cell('abstained'),
    ]
    return '| ' + ' | '.join(cells) + ' |'
