"""Small localization sets whose features show what happens, written as extraction writes them."""

import json

import numpy as np

from pal_ds.formats.feature_sidecar import Sidecar, array_name, sidecar_name

FPS, CLIP, STRIDE = 30.0, 8, 8
CLASSES = ("jump", "run", "throw")
SENTENCES = {"jump": "The person jumps.", "run": "a person runs fast", "throw": "someone throws a ball"}


def write_features(folder, video, values):
    """Write v_<id>.npy and its sidecar."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = STRIDE * (len(values) - 1) + CLIP
    sidecar = Sidecar(
        id=video,
        source=f"{video}.mp4",
        fps=FPS,
        clip_frames=CLIP,
        stride=STRIDE,
        offset=0,
        duration=frames / FPS,
        frames=frames,
        padded=0,
        features=len(values),
        feature_dim=values.shape[1],
        sampling="native",
        crop="centre",
        size=112,
        checkpoint="none",
    )
    np.save(folder / array_name(video), values.astype(np.float32))
    (folder / sidecar_name(video)).write_bytes(sidecar.to_json())
    return sidecar


def make_set(folder, *, videos=10, length=60, channels=16, segments=2, grid=0, seed=0):
    """Write a set of videos with annotated actions; all of it is both training and validation.

    With ``grid``, actions start and end on one of ``grid`` equal parts of the video: the resolution of a head
    would bound its recall otherwise. A feature is noise plus, inside an action, the signature of its class and of
    how far through it one is.
    """
    draw = np.random.default_rng(seed)
    signature = draw.normal(size=(len(CLASSES), channels))
    progress = draw.normal(size=(2, channels))
    database = {}
    for number in range(videos):
        name = f"video{number}"
        count = int(draw.integers(length * 3 // 4, length + 1))
        values = 0.1 * draw.normal(size=(count, channels))
        annotations = []
        edges = np.linspace(0, count, segments + 1)
        kinds = draw.permutation(len(CLASSES))[:segments]
        for kind, low, high in zip(kinds, edges[:-1], edges[1:], strict=True):
            size = draw.uniform(0.35, 0.7) * (high - low)
            start = draw.uniform(low + 1, high - size - 1)
            if grid:
                start, size = (max(round(value * grid / count), 1) * count / grid for value in (start, size))
            centre = np.arange(count) + 0.5
            inside = (centre >= start) & (centre <= start + size)
            through = np.clip((centre - start) / size, 0, 1)[:, None]
            shown = 2 * signature[kind] + 2 * (through * progress[0] + (1 - through) * progress[1])
            values += inside[:, None] * shown
            span = [float(edge * STRIDE / FPS) for edge in (start, start + size)]
            annotations.append({"segment": span, "label": CLASSES[kind]})
        sidecar = write_features(folder / "features", name, values)
        for subset in ("training", "validation"):
            key = name if subset == "validation" else f"{name}_copy"
            database[key] = {"subset": subset, "duration": sidecar.duration, "annotations": annotations}
        write_features(folder / "features", f"{name}_copy", values)
    (folder / "truth.json").write_text(json.dumps({"database": database}))
    return folder


def write_queries(folder):
    """Write the set's actions as sentences in Charades-STA's form."""
    database = json.loads((folder / "truth.json").read_text())["database"]
    lines = [
        f"{video} {row['segment'][0]:.3f} {row['segment'][1]:.3f}##{SENTENCES[row['label']]}"
        for video, entry in database.items()
        if entry["subset"] == "validation"
        for row in entry["annotations"]
    ]
    (folder / "queries.txt").write_text("\n".join(lines) + "\n")
    return folder / "queries.txt"
