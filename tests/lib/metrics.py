"""Reading the Prometheus text format, strictly enough to notice when it is broken."""

import re

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"'
_SAMPLE = re.compile(rf"({_NAME})(?:\{{({_LABEL}(?:,{_LABEL})*)?,?\}})? (\S+)(?: -?\d+)?\Z")
_ONE_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"')
_META = re.compile(rf"# (HELP|TYPE) ({_NAME}) ?(.*)\Z")
_TYPES = {"counter", "gauge", "histogram", "summary", "untyped"}


class Metrics(dict):
    """{(name, frozenset of label pairs): value}; types and help hold what was said about each family."""

    def __init__(self):
        super().__init__()
        self.types, self.help = {}, {}

    def total(self, name, **labels):
        """The sum of all samples of this name that have at least these labels; 0 when there are none."""
        wanted = set(labels.items())
        return sum(value for (sample, have), value in self.items() if sample == name and wanted <= have)

    def names(self):
        return {name for name, _ in self}

    def family(self, name):
        """The family that a sample's name belongs to; None when no TYPE line announced it."""
        for suffix in ("", "_bucket", "_sum", "_count"):
            base = name.removesuffix(suffix) if suffix else name
            if base in self.types and (not suffix or self.types[base] in ("histogram", "summary")):
                return base
        return None


def parse_metrics(text):
    """Metrics from the text of a scrape. ValueError with the offending line when it is not the format."""
    metrics = Metrics()
    if text and not text.endswith("\n"):
        raise ValueError("the last line has no line feed")
    for line in text.splitlines():
        if not line:
            continue
        if line.startswith("#"):
            _read_meta(metrics, line)
            continue
        match = _SAMPLE.match(line)
        if not match:
            raise ValueError(f"not a sample: {line!r}")
        key = (match[1], frozenset(_ONE_LABEL.findall(match[2] or "")))
        if key in metrics:
            raise ValueError(f"twice: {line!r}")
        metrics[key] = float(match[3])
    return metrics


def _read_meta(metrics, line):
    match = _META.match(line)
    if not match:
        return  # any other comment
    into = metrics.types if match[1] == "TYPE" else metrics.help
    if match[2] in into:
        raise ValueError(f"twice: {line!r}")
    if match[1] == "TYPE" and match[3] not in _TYPES:
        raise ValueError(f"unknown type: {line!r}")
    into[match[2]] = match[3]
