"""Random ground truth and predictions in the official form, with every nuisance."""

import json
import random


def invent(seed, *, videos=9, labels=4, coarse=False):
    """Random ground truth and predictions with ties, repeats, gaps, strangers and zero lengths."""
    draw = random.Random(seed)

    def span(around=None):
        if around is not None and draw.random() < 0.7:
            wobble = [value + draw.gauss(0, 1.5) for value in around]
            start, end = sorted(max(0.0, value) for value in wobble)
        else:
            start = draw.uniform(0, 50)
            end = start + draw.choice([0.0, draw.uniform(0, 30)])
        return [float(round(start)), float(round(end))] if coarse else [start, end]

    names = [f"class {number}" for number in range(labels)]
    database, results = {}, {}
    for number in range(videos):
        video = f"video_{number}"
        database[video] = [(span(), draw.choice(names)) for _ in range(draw.randint(1, 6))]
        if draw.random() < 0.2:
            database[video].append(database[video][0])
        if draw.random() < 0.15:
            continue
        rows = []
        for _ in range(draw.choice([0, 3, 40, 140])):
            near = draw.choice(database[video])
            label = near[1] if draw.random() < 0.8 else draw.choice(names)
            score = draw.choice([draw.random(), round(draw.random(), 1), 0.5])
            rows.append({"segment": span(near[0]), "label": label, "score": score})
        if rows and draw.random() < 0.5:
            rows.append(dict(rows[0]))
        results[video] = rows
    results["stranger"] = [
        {"segment": span(), "label": draw.choice(names), "score": draw.random()}
        for _ in range(draw.randint(0, 50))
    ]
    return database, results


def write(folder, database, results, subset="validation"):
    """Write both in the official form; other subsets hold what must not count."""
    form = {
        video: {
            "subset": subset,
            "duration": 100.0,
            "annotations": [{"segment": segment, "label": label} for segment, label in rows],
        }
        for video, rows in database.items()
    }
    decoy = [{"segment": [0, 1], "label": "decoy class"}]
    form["elsewhere"] = {"subset": "training", "duration": 9.0, "annotations": decoy}
    form["hidden"] = {"subset": "testing", "duration": 9.0, "annotations": []}
    truth, predictions = folder / "truth.json", folder / "predictions.json"
    truth.write_text(json.dumps({"version": "1.3", "taxonomy": [], "database": form}))
    predictions.write_text(json.dumps({"version": "1.3", "results": results, "external_data": {}}))
    return str(truth), str(predictions)
