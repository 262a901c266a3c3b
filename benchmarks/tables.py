"""Tables in Markdown files, between markers, rewritten by the scripts that measure."""

from pathlib import Path


def rewrite(path: Path, name: str, text: str) -> None:
    """Put `text` between the markers `<!-- NAME: begin -->` and `<!-- NAME: end -->` of a file."""
    begin, end = f'<!-- {name}: begin -->', f'<!-- {name}: end -->'
    old = path.read_text(encoding='utf-8')
    new = f'{old.split(begin)[0]}{begin}\n{text}\n{end}{old.split(end)[1]}'
    path.write_text(new, encoding='utf-8')
