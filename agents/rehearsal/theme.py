"""The colours of an application, readable in light and in dark."""

from __future__ import annotations

import colorsys

from .brief import AppSpec


def _luminance(rgb: tuple[float, float, float]) -> float:
    parts = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in rgb]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def _lightness(hue: int, saturation: float, *, against: float, darker: bool) -> int:
    """The lightness in percent at which a hue has a contrast of 4.8 (WCAG AA asks 4.5) with a luminance."""
    for percent in range(46, 5, -1) if darker else range(54, 96):
        light = _luminance(colorsys.hls_to_rgb(hue / 360, percent / 100, saturation))
        high, low = max(light, against), min(light, against)
        if (high + 0.05) / (low + 0.05) >= 4.8:
            return percent
    return 6 if darker else 95


def theme_source(spec: AppSpec) -> str:
    """`static/theme.css`: the colours, readable in light and in dark."""
    hue = spec.hue
    accent = _lightness(hue, 0.62, against=0.94, darker=True)
    light = _lightness(hue, 0.7, against=0.02, darker=False)
    return f"""/* The colours of this application. */
:root {{
  color-scheme: light dark;
  --accent: hsl({hue} 62% {accent}%);
  --accent-deep: hsl({(hue + 18) % 360} 62% {max(accent - 10, 4)}%);
  --accent-ink: hsl({hue} 62% {max(accent - 4, 4)}%);
  --on-accent: #fff;
  --ground: hsl({hue} 25% 97%);
  --card: #fff;
  --tint: hsl({hue} 45% 94%);
  --line: hsl({hue} 18% 88%);
  --edge: hsl({hue} 10% 52%);
  --ink: hsl({hue} 20% 13%);
  --soft: hsl({hue} 10% 38%);
  --alarm: #b3261e;
}}

@media (prefers-color-scheme: dark) {{
  :root {{
    --accent-ink: hsl({hue} 70% {max(light, 72)}%);
    --ground: hsl({hue} 14% 9%);
    --card: hsl({hue} 12% 13%);
    --tint: hsl({hue} 18% 19%);
    --line: hsl({hue} 10% 24%);
    --edge: hsl({hue} 8% 50%);
    --ink: hsl({hue} 10% 93%);
    --soft: hsl({hue} 8% 70%);
    --alarm: #ff9a92;
  }}
}}
"""
