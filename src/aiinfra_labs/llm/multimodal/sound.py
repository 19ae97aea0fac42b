"""Sound as a sequence: short frames, and of each how strong every band of pitch is. Unit 1.8.

What Whisper reads (Radford et al., arXiv:2212.04356, section 2.2) in small: windows of 25 ms, the
squared size of their Fourier transform summed into bands, a logarithm. S: samples, F: frames.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from aiinfra_labs import bounds

RATE = 8000  # samples a second
FRAME = 200  # samples: 25 ms; frames do not overlap
BANDS = 16
SAMPLES = 32 * FRAME  # 0.8 s
FRAMES = SAMPLES // FRAME
SHORTEST, LONGEST, GAP = 400, 560, 480  # samples: a beep lasts 50 to 70 ms, 60 ms apart at least


def power(samples: Tensor, frame: int = FRAME) -> Tensor:
    """|FFT|^2 of each frame under a Hann window: [B, S] to [B, F, frame / 2 + 1].

    frame: samples. What is left behind the last whole frame is not seen. Raises ValueError where
    there is no whole frame.
    """
    bounds.whole("frame", frame, "samples of a frame", 2, max(2, samples.shape[-1]))
    if samples.shape[-1] < frame:
        raise bounds.SettingError(
            f"{samples.shape[-1]} samples, and a frame has {frame}",
            "a spectrum is that of a whole frame",
            "a longer recording",
        )
    frames = samples.unfold(-1, frame, frame)  # [B, F, frame]: a view, nothing is copied
    window = torch.hann_window(frame, device=samples.device)
    return torch.fft.rfft(frames * window).abs().square()


def spectra(samples: Tensor) -> Tensor:
    """log(1 + power) in 16 bands of equal width: float32 [B, S] to [B, F, 16]."""
    strength = power(samples)[..., 1 : FRAME // 2 + 1]  # without the constant: [B, F, 100]
    return torch.log1p(strength @ _bands(FRAME // 2, BANDS))


@functools.lru_cache(maxsize=4)
def _bands(bins: int, bands: int) -> Tensor:
    """float32 [bins, bands]: a one where a bin belongs to a band."""
    belongs = torch.arange(bins) * bands // bins
    return torch.nn.functional.one_hot(belongs, bands).float()


def beeps(counts: Tensor, generator: torch.Generator) -> Tensor:
    """Recordings of so many beeps each: int64 [B], 0 to 6, to float32 [B, 6400].

    All beeps of a recording have one pitch. When each begins, how long it lasts, its pitch and
    loudness are drawn, and there is noise, so that nothing but counting tells how many there are.
    """
    return torch.stack([_recording(count, generator) for count in counts.tolist()])


def _recording(count: int, generator: torch.Generator) -> Tensor:
    if count < 0 or count * LONGEST + (count - 1) * GAP > SAMPLES:
        raise bounds.SettingError(
            f"{count} beeps in {SAMPLES / RATE:.1f} s",
            f"each lasts up to {1000 * LONGEST / RATE:.0f} ms, and they must stay apart",
            "at most 6",
        )
    lengths = torch.randint(SHORTEST, LONGEST + 1, (count,), generator=generator)
    free = SAMPLES - int(lengths.sum()) - GAP * (count - 1)  # to share before, between and behind
    cuts = torch.randint(free + 1, (count,), generator=generator).sort().values
    pitch, loudness = torch.rand(2, generator=generator).tolist()
    out = 0.02 * torch.randn(SAMPLES, generator=generator)
    for i, (cut, length) in enumerate(zip(cuts.tolist(), lengths.tolist(), strict=True)):
        start = cut + int(lengths[:i].sum()) + i * GAP
        time = torch.arange(length) / RATE
        tone = torch.sin(2 * math.pi * (500 + 2000 * pitch) * time)  # 500 to 2,500 Hz
        out[start : start + length] += (0.3 + 0.7 * loudness) * tone
    return out
