"""One self-contained HTML page of a study: no scripts, no files beside it; figures are SVG in data addresses."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING

from tensorprog.derivation import FORMULAS
from tensorprog.finite.convergence import Convergence
from tensorprog.finite.law import Law
from tensorprog.reporting import figures
from tensorprog.reporting.setting import Setting
from tensorprog.verdict import NAMES, Validation

if TYPE_CHECKING:
    from tensorprog.training import Training

COLOURS: Mapping[str, str] = {"agrees": "#2f855a", "disagrees": "#c53030", "inconclusive": "#b7791f"}

STYLE = """
.study { max-width: 64rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; color: #222;
  background: #fff; }
.study h1 { font-size: 1.6rem; margin-bottom: 0.2rem; } .study h2 { font-size: 1.2rem; margin-top: 2.2rem; }
.study .verdict { border-left: 0.4rem solid; padding: 0.6rem 1rem; background: #f7fafc; margin: 1rem 0; }
.study .verdict b { text-transform: uppercase; letter-spacing: 0.03em; }
.study pre { background: #f7fafc; padding: 0.8rem 1rem; overflow: auto; font-size: 0.88rem; line-height: 1.4; }
.study pre i { color: #718096; font-style: normal; }
.study table.numbers { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 0.6rem 0; }
.study table.numbers th, .study table.numbers td { padding: 0.15rem 0.9rem 0.15rem 0; text-align: right; }
.study table.numbers th { border-bottom: 1px solid #cbd5e0; font-weight: 600; }
.study table.numbers td { white-space: nowrap; }
.study .wide { overflow-x: auto; margin: 0.8rem 0; }
.study img { max-width: 100%; min-width: 34rem; height: auto; display: block; }
.study dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.1rem 1rem; }
.study dd { margin: 0; }
@media (max-width: 40rem) { .study dl { display: block; } .study dt { font-weight: 600; } }
"""


def page(setting: Setting, found: Validation, training: Training | None = None) -> str:
    """The whole document, with the curves of a training if there was one."""
    body = [
        f"<h1>{escape(setting.title)}</h1>",
        _verdict(found),
        _facts(setting.facts),
        f"<h2>Program</h2>\n<pre>{_highlighted(setting.source)}</pre>",
        *study(found),
        *([] if training is None else _training(training)),
        f'<h2>Derivation</h2>\n<div class="derivation">{setting.derivation}</div>',
    ]
    head = f'<meta charset="utf-8"/>\n<title>{escape(setting.title)}</title>\n<style>{FORMULAS}{STYLE}</style>'
    inside = "\n".join(body)
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n'
            f'<body>\n<div class="study">\n{inside}\n</div>\n</body>\n</html>\n')


def fragment(found: Validation) -> str:
    """The study alone, to be shown in a notebook."""
    inside = "\n".join([_verdict(found), *study(found)])
    return f'<style>{STYLE}</style>\n<div class="study">\n{inside}\n</div>'


def study(found: Validation) -> list[str]:
    """Sections with the figures and numbers of a study."""
    sections = ["<h2>Convergence</h2>", image(figures.convergence(found), "deviation against width, log-log")]
    for kind, one in found.found.items():
        name = NAMES[kind]
        drawn = figures.kernels(name, one, found.rows) if one.limit.ndim == 2 else figures.values(name, one)
        sections += [f"<h2>{name}: {one.verdict}</h2>", f"<p>{_words(one.reason)}</p>",
                     image(drawn, f"{name}: limit, simulation, difference"), _deviations(one)]
    if found.law is not None:
        sections += [f"<h2>Law of the outputs: {found.law.verdict}</h2>", f"<p>{_words(found.law.reason)}</p>",
                     image(figures.outputs(found.law, found.rows), "histograms of outputs beside the limit"),
                     _law(found.law)]
    if found.failure:
        sections.append(f"<p>NTK not simulated: {escape(found.failure)}</p>")
    return sections


# ---------------------------------------------------------------- parts


def _verdict(found: Validation) -> str:
    hint = f"<br/>{escape(found.hint)}" if found.hint and found.verdict == "disagrees" else ""
    colour = COLOURS[found.verdict]
    words = _words(found.words).replace(found.verdict, f'<b style="color: {colour}">{found.verdict}</b>', 1)
    return f'<div class="verdict" style="border-color: {colour}">{words}{hint}</div>'


def _words(text: str) -> str:
    """What is said on a terminal, in the signs of a page."""
    return escape(text).replace("+-", "\N{PLUS-MINUS SIGN}")


def _facts(facts: Mapping[str, str]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items()) + "</dl>"


def _highlighted(source: str) -> str:
    """Source text with its comments set apart."""
    return re.sub(r"#[^\n]*", lambda m: f"<i>{m[0]}</i>", escape(source, quote=False))


def image(svg: str, description: str) -> str:
    """A figure inside of the page."""
    data = base64.b64encode(svg.encode()).decode()
    return f'<div class="wide"><img alt="{escape(description)}" src="data:image/svg+xml;base64,{data}"/></div>'


def _deviations(c: Convergence) -> str:
    rows = [(str(w), str(s), f"{d:.3e}", f"{low:.2e} to {high:.2e}")
            for w, s, d, (low, high) in zip(c.widths, c.seeds, c.deviation, c.interval, strict=True)]
    numbers = table(("width", "networks", "deviation of one", "95% interval"), rows)
    leading = f"bias ({c.bias.size}) / width, variance ({c.variance.size}) / width"
    return f"{numbers}\n<p>Slope {c.slope:.3f} ± {c.slope_error:.3f}. Leading terms, relative: {_words(leading)}.</p>"


def _law(law: Law) -> str:
    rows = [(str(w), str(len(f)), f"{k.value:+.3f} ± {k.error:.3f}", f"{e:.3f}")
            for w, f, k, e in zip(law.widths, law.outputs, law.kurtosis, law.energy, strict=True)]
    return table(("width", "networks", "excess kurtosis", "p of the energy test"), rows)


def _training(found: Training) -> list[str]:
    off = {name: found.deviation(name) for name in ("infinite", "linearized")}
    words = (f"Width {found.width}, {found.train} examples, {found.loss} loss, {found.schedule.counts[-1]} steps of "
             f"{found.schedule.step:.3g}. The outputs leave the prediction of infinite width by at most "
             f"{off['infinite']:.2g} (rms over rows), that of the linearized network by {off['linearized']:.2g}; "
             f"the kernel moved by {found.movement.change[-1]:.1%}.")
    return ["<h2>Training</h2>", f"<p>{escape(words)}</p>",
            image(figures.training(found), "outputs over time beside predictions, movement of the kernel")]


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Numbers under heads."""
    head = "".join(f"<th>{escape(h)}</th>" for h in heads)
    lines = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    inside = f"<thead><tr>{head}</tr></thead><tbody>{lines}</tbody>"
    return f'<div class="wide"><table class="numbers">{inside}</table></div>'
