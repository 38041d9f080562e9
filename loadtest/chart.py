"""Charts as inline SVG, drawn by hand: nothing is loaded, colours come from the page's style sheet (classes s1, s2, …)."""

import collections
import html
import json
import math

WIDTH, HEIGHT = 720, 250
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 14, 30

# values: one a step, None where there is none. style: the class of its colour.
Series = collections.namedtuple("Series", "label style values is_area")


def ticks(top, most=4):
    """Round numbers from 0 to at least top."""
    if top <= 0:
        return [0, 1]
    rough = top / most
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * 0.999)
    return [step * i for i in range(math.ceil(top / step - 1e-9) + 1)]


def number(value):
    """Short: 12k, 850, 0.5."""
    if value >= 10000:
        return f"{value / 1000:.1f}k".replace(".0k", "k")
    if value >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:g}"


def over_time(title, series, step_s, unit, marks=(), top=None):
    """Lines over the seconds of the run. marks: [(second, label)], drawn as upright lines. top: of the scale."""
    count = max((len(one.values) for one in series), default=0)
    values = [value for one in series for value in one.values if value is not None]
    scale = ticks(top if top is not None else max(values, default=0))
    end = max(count * step_s, step_s)

    def x_of(second):
        return LEFT + (WIDTH - LEFT - RIGHT) * second / end

    def y_of(value):
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / scale[-1]

    parts = [_grid(scale, y_of)]
    parts += [_tick_x(x_of(second), f"{second:g} s") for second in _time_ticks(end)]
    parts += [_mark(x_of(second), label) for second, label in marks if second < end]
    for one in series:
        points = [None if value is None else (x_of((i + 0.5) * step_s), y_of(value)) for i, value in enumerate(one.values)]
        parts += _curve(points, one, y_of(0))
    data = {"step": step_s, "left": LEFT / WIDTH, "right": RIGHT / WIDTH, "unit": unit,
            "series": [[one.label, one.values] for one in series]}
    return _figure(title, unit, parts, [(one.label, one.style) for one in series], data)


def histogram(title, unit, bars, marks):
    """bars: [(from ms, to ms, count)] on a logarithmic scale; marks: [(ms, label)]."""
    total = sum(count for _, _, count in bars) or 1
    shares = [100 * count / total for _, _, count in bars]
    scale = ticks(max(shares, default=0))
    low, high = (math.log10(bars[0][0]), math.log10(bars[-1][1])) if bars else (0, 1)

    def x_of(ms):
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log10(ms) - low) / (high - low)

    def y_of(value):
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / scale[-1]

    parts = [_grid(scale, y_of)]
    parts += [_tick_x(x_of(ms), _duration(ms)) for ms in _log_ticks(low, high)]
    for (start, end, count), share in zip(bars, shares):
        parts.append(_bar(x_of(start) + 1, x_of(end) - 1, y_of(share), y_of(0),
                          f"{start:.3g} to {end:.3g} ms: {count} events, {share:.2g} %"))
    parts += [_mark(x_of(ms), label, i) for i, (ms, label) in enumerate(marks) if bars and bars[0][0] <= ms <= bars[-1][1]]
    return _figure(title, unit, parts, [], None)


def _grid(scale, y_of):
    lines = []
    for value in scale:
        y = y_of(value)
        style = "axis" if value == 0 else "grid"
        lines.append(f'<line class="{style}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
                     f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{number(value)}</text>')
    return "".join(lines)


def _tick_x(x, label):
    anchor = "end" if x > WIDTH - RIGHT - 20 else "middle"
    return f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 10}" text-anchor="{anchor}">{label}</text>'


def _duration(ms):
    return f"{ms / 1000:g} s" if ms >= 1000 else f"{ms:g} ms"


def _time_ticks(end):
    step = next((step for step in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600) if end / step <= 8), 1200)
    return [step * i for i in range(int(end / step) + 1)]


def _log_ticks(low, high):
    wide = high - low > 3
    return [10.0 ** power * factor for power in range(math.floor(low), math.ceil(high) + 1)
            for factor in ((1,) if wide else (1, 2, 5)) if low <= math.log10(10.0 ** power * factor) <= high]


def _mark(x, label, row=0):
    """Labels of neighbours stand in different rows; near the right edge they stand on the line's left."""
    side, anchor = (-5, "end") if x > WIDTH * 0.8 else (5, "start")
    return (f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
            f'<text class="note" x="{x + side:.1f}" y="{TOP + 10 + 15 * row}" text-anchor="{anchor}">{html.escape(label)}</text>')


def _curve(points, series, base):
    """Paths of the stretches without a gap."""
    parts, stretch = [], []
    for point in [*points, None]:
        if point:
            stretch.append(point)
        elif stretch:
            line = " L".join(f"{x:.1f} {y:.1f}" for x, y in stretch)
            if series.is_area:
                parts.append(f'<path class="area {series.style}" d="M{stretch[0][0]:.1f} {base:.1f} L{line} L{stretch[-1][0]:.1f} {base:.1f} Z"/>')
            parts.append(f'<path class="line {series.style}" d="M{line}"/>')
            stretch = []
    return parts


def _bar(left, right, top, base, tip):
    """Rounded at the top only."""
    if base - top < 0.2:
        return ""
    radius = min(3, (right - left) / 2, base - top)
    path = (f"M{left:.1f} {base:.1f} V{top + radius:.1f} Q{left:.1f} {top:.1f} {left + radius:.1f} {top:.1f} "
            f"H{right - radius:.1f} Q{right:.1f} {top:.1f} {right:.1f} {top + radius:.1f} V{base:.1f} Z")
    return f'<path class="bar s1" d="{path}"><title>{html.escape(tip)}</title></path>'


def _figure(title, unit, parts, legend, data):
    keys = "".join(f'<span class="key"><i class="{style}"></i>{html.escape(label)}</span>' for label, style in legend)
    hover = f" data-chart='{html.escape(json.dumps(data), quote=True)}'" if data else ""
    return (f'<figure><figcaption><b>{html.escape(title)}</b><small>{html.escape(unit)}</small><span class="keys">{keys}</span></figcaption>'
            f'<div class="plot"{hover}><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)}">'
            f"{''.join(parts)}</svg></div></figure>")


def shares(title, unit, rows):
    """Bars from left to right, one a row: [(label, value)]."""
    top, height = max((value for _, value in rows), default=0) or 1, (HEIGHT - TOP) / max(len(rows), 1)
    parts = []
    for i, (label, value) in enumerate(rows):
        y, length = TOP + i * height, (WIDTH - LEFT - 160) * value / top
        middle = y + height / 2
        parts.append(f'<text class="tick" x="{LEFT + 32}" y="{middle + 4:.1f}" text-anchor="end">{html.escape(label)}</text>'
                     f'<path class="bar s1" d="M{LEFT + 40} {y + height * 0.2:.1f} h{max(length, 1):.1f} v{height * 0.6:.1f} h-{max(length, 1):.1f} Z"/>'
                     f'<text class="tick" x="{LEFT + 48 + length:.1f}" y="{middle + 4:.1f}">{value:.0f}</text>')
    return _figure(title, unit, parts, [], None)
