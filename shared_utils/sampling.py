"""Which frames of a video make a clip, by the names that the YAML files use."""
import numpy as np

MODES = ("discrete", "part", "interval", "average")


def sample(mode, count, seq, frame_interval=1, rng=None):
    """`seq` int64 indices in [0, count), in the order of time. ValueError where there is no such clip.
    average: evenly spaced from the first to the last frame; discrete: random ones, none twice if possible;
    interval: every frame_interval-th from a random start; part: consecutive ones. In a short video the first
    two repeat frames in place, the others begin anew. Without `rng` discrete is average, others central."""
    if mode not in MODES or min(count, seq, frame_interval) < 1:
        raise ValueError(f"{mode}: {seq} frames {frame_interval} apart cannot be taken from {count} frames")
    if mode == "average" or (mode == "discrete" and rng is None):
        return np.round(np.linspace(0, count - 1, seq)).astype(np.int64)
    if mode == "discrete":
        whole, rest = divmod(seq, count)
        return np.sort([*np.tile(np.arange(count), whole), *rng.choice(count, rest, replace=False)])
    step = frame_interval if mode == "interval" else 1
    spare = max(0, count - ((seq - 1) * step + 1))
    start = spare // 2 if rng is None else int(rng.integers(spare + 1))
    return (start + step * np.arange(seq)) % count
